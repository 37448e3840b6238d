#!/usr/bin/env bash
# Segmentation networks from ground truth, from plain maps, from AdvCAM, from few masks; benchmarks/segmentation.md records what it printed.
#   segmentation.sh photographs [PHOTOS] [RUN] [WORK] [ROWS]   # RUN is that of `make bench`: its classifier and maps are used
#   segmentation.sh scenes      [DATA]   [RUN] [WORK] [ROWS]   # DATA and RUN are those of `make demo`
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-photographs}
python=.venv/bin/python advcam=${ADVCAM:-.venv/bin/advcam}
if [ "$kind" = photographs ]; then
  data=${2:-../shared/photos} run=${3:-runs/photographs} start=backbone crop=256 batch=16 steps=300 semi=250
  refine=(--method irn --refine-option crop=256)
else  # from scratch: nothing but the run's classifier to start from
  data=${2:-runs/demo/data} run=${3:-runs/demo/run} start=classifier crop=128 batch=16 steps=500 semi=400
  refine=(--method pamr)
fi
data=$(realpath "$data") work=$(realpath -m "${4:-runs/segmentation-$kind}")
rows=${5:-upper plain advcam few unlabelled weak paper classifier unbalanced bootstrapped symmetric rounds cct}
mkdir -p "$work"
shuf --random-source=<(yes) -n 60 "$data/train.txt" | sort > "$work/few.txt"  # 60 images with masks, the same at every call

masks() {  # of plain or AdvCAM maps; made once
  [ -d "$work/masks-$1" ] || $python -m benchmarks.rows copy "$run" "$work/masks-$1" classify climb
  $advcam refine --run "$work/masks-$1" --maps "$1" --quiet "${refine[@]}" > /dev/null
}
row() {  # NAME MASKS VERB OPTIONS...: one training, its predictions of eval.txt, and these with the CRF
  local name=$1 from=$2 verb=$3; shift 3
  [[ " $rows " == *" $name "* ]] || return 0
  masks "$from"
  if [ "$name" = weak ]; then  # goes on from the network of the row advcam
    [ -d "$work/$name" ] || $python -m benchmarks.rows copy "$work/advcam" "$work/$name" classify climb refine segment
  fi
  [ -d "$work/$name" ] || $python -m benchmarks.rows copy "$work/masks-$from" "$work/$name" classify climb refine
  $advcam "$verb" --run "$work/$name" --predict-scales 1,1.25 --crop "$crop" --quiet "$@"
  $python -m benchmarks.rows score "$work/$name" "$verb" "$data/masks" --name "$name"
  $python -m benchmarks.rows score "$work/$name" "$verb" "$data/masks" --name "$name" --crf
}
segment=(--segment-option "start=$start" --batch "$batch" --segment-option "steps=$steps" --segment-option balanced=True)
alone=(--masks "$data/masks" --semi-option "start=$start" --mode labelled --batch "$batch" --semi-option "steps=$steps")
few=(--pixel-labels "$work/few.txt" --masks "$data/masks" --semi-option "start=$start" --batch $((batch / 2)) --semi-option "steps=$semi")
row advcam advcam segment "${segment[@]}"
row upper advcam semi --pixel-labels "$data/train.txt" "${alone[@]}"
row plain plain segment "${segment[@]}"
row few advcam semi --pixel-labels "$work/few.txt" "${alone[@]}"
row weak advcam semi "${few[@]}" --mode weak --semi-option weak=1.0 --semi-option start=segment --lr 1e-4 --head-lr 1e-3
row unlabelled advcam semi "${few[@]}" --mode unlabelled --semi-option "start=$work/few/5-semi/model.safetensors" --lr 1e-4 --head-lr 1e-3
row paper advcam segment --recipe deeplab-v2 --segment-option "encoder=''" --crop 321 --segment-option "start=$start" --segment-option steps=60 --segment-option predict_crf=False
row classifier advcam segment "${segment[@]}" --segment-option start=classifier
for loss in bootstrapped symmetric; do row "$loss" advcam segment "${segment[@]}" --segment-option "loss=$loss"; done
row unbalanced advcam segment "${segment[@]}" --segment-option balanced=False
row rounds advcam segment "${segment[@]}" --segment-option rounds=2
row cct advcam semi "${few[@]}" --mode weak --method cct --semi-option output_stride=16
