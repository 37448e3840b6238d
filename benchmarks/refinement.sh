#!/usr/bin/env bash
# Dense CRF and random walk beside what others use, and ways from maps to masks on generated scenes with a network from scratch; benchmarks/refinement.md
# records what it printed (its photographs: chain.sh has them now). pydensecrf2 is a peer, compiled into the work folder, not into .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-runs/refinement}
python=.venv/bin/python advcam=.venv/bin/advcam
mkdir -p "$work"
.venv/bin/pip install --quiet --target "$work/peer" --no-deps pydensecrf2
PYTHONPATH=$work/peer $python benchmarks/crf.py 5
$python benchmarks/walk.py

scenes=$work/scenes
$python - "$scenes" <<'PY'
import sys
from pathlib import Path
from advcam.data import SceneSettings, write_dataset
write_dataset(Path(sys.argv[1]), 600, 150, 0, SceneSettings(same=0.5))  # half of the second objects are of the first one's class
PY
$advcam classify --run "$work/scenes-run" --images "$scenes/images" --labels "$scenes/labels.csv" --classes "$scenes/classes.csv" \
  --train-list "$scenes/train.txt" --eval-list "$scenes/eval.txt" --backbone test_resnet --output-stride 8 --from-scratch \
  --epochs 20 --batch 32 --lr 3e-3 --crop 128 --train-scales 1,1
$advcam climb --run "$work/scenes-run" --preset default --steps 12 --step-size 0.02 --suppress 0 --restrain 3 --no-mirror \
  --climb-option emphasis=none --climb-option ceiling=None
# The classifier is from scratch and knows nothing but its classes, so its backbone learns too.
irn=(frozen=False lr=0.004 epochs=12 pair_radius=6 log2_steps=4 threshold=0.3 crop=128 scales=1,1)
psa=(frozen=False lr=0.004 epochs=12 crop=128 scales=1,1)
ways() { $python -m benchmarks.refinement "$work/scenes-run" "$scenes/masks" --work "$work/scenes-ways" "$@"; }
ways --only threshold,pamr,crf --maps advcam  # at .3, near the best of the seed; so is .18 of the plain one
ways --only threshold,pamr,crf --maps plain --set threshold.threshold=0.18 --set pamr.threshold=0.18 --set crf.threshold=0.18
ways --only psa --maps plain "${psa[@]/#/--set=psa.}" --set psa.log2_steps=3 --set psa.alpha=8.0
ways --only psa --maps advcam "${psa[@]/#/--set=psa.}" --set psa.log2_steps=2 --set psa.alpha=4.0
ways --only irn "${irn[@]/#/--set=irn.}"
$advcam refine --run "$work/scenes-run" --redo --method irn --refine-option instances=True "${irn[@]/#/--refine-option=}"
$advcam evaluate --run "$work/scenes-run" --masks "$scenes/masks" --instances "$scenes/instances"
