#!/usr/bin/env bash
# The main job on the real photographs of ../shared/photos; benchmarks/photographs.md records what it printed.
set -euo pipefail
cd "$(dirname "$0")/.."
photos=${1:-../shared/photos} run=${2:-runs/photographs}
.venv/bin/advcam run --out "$run" \
  --images "$photos/images" --labels "$photos/labels.csv" --classes "$photos/classes.csv" \
  --train-list "$photos/train.txt" --eval-list "$photos/eval.txt" \
  --backbone mobilenetv2_100 --backbone-option pad_type=same --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 \
  --weights "$photos/mobilenetv2_100.imagenet.safetensors" \
  --backbone-option drop_rate=0.2 --epochs 5 --crop 256 --train-scales 0.75,1.25 \
  --segment-epochs 6 --segment-crop 256 --segment-scales 0.75,1.5
.venv/bin/advcam evaluate --run "$run" --masks "$photos/masks"
