#!/usr/bin/env bash
# What the command line does about system time and other work on the machine, and the demo on processors that know less; benchmarks/machines.md records
# what it printed. An environment that says something already is left alone, so glibc's and OpenMP's own defaults can be asked for.
#   machines.sh system | beside | demo [PHOTOS]
set -euo pipefail
cd "$(dirname "$0")/.."
photos=$(realpath "${2:-../shared/photos}") work=$(mktemp -d)
trap 'kill $busy 2> /dev/null; rm -rf "$work"' EXIT
busy=
defaults=(MALLOC_PERTURB_=0 GOMP_SPINCOUNT=300000)  # glibc's, libgomp's
network=(--backbone mobilenetv2_100 --backbone-option pad_type=same --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5
  --weights "$photos/mobilenetv2_100.imagenet.safetensors" --crop 256 --train-scales 0.75,1.25 --train-precision float32 --quiet)
TIMEFORMAT='%R s, user %U, sys %S'
train() {  # LABEL EPOCHS LIST ENVIRONMENT...
  local label=$1 epochs=$2 list=$3; shift 3
  rm -rf "$work/run"
  printf '%s: ' "$label"
  time env "$@" .venv/bin/advcam classify --run "$work/run" --images "$photos/images" --labels "$photos/labels.csv" --classes "$photos/classes.csv" \
    --train-list "$list" --eval-list "$work/few.txt" "${network[@]}" --epochs "$epochs" > /dev/null
}
head -20 "$photos/eval.txt" > "$work/few.txt"
head -200 "$photos/train.txt" > "$work/some.txt"
case ${1:?system, beside or demo} in
  system)
    train "before" 5 "$photos/train.txt" "${defaults[@]}"
    train "after" 5 "$photos/train.txt" A=1 ;;
  beside)
    for environment in "before:${defaults[*]}" "after:A=1"; do
      name=${environment%%:*} given=${environment#*:}
      train "$name, alone" 1 "$work/some.txt" $given
      python3 -c 'while True: pass' & busy=$!
      train "$name, beside a busy process" 1 "$work/some.txt" $given
      kill $busy; wait $busy 2> /dev/null || true; busy=
    done ;;
  demo)
    for given in "A=1" "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2" "ATEN_CPU_CAPABILITY=default"; do
      rm -rf "$work/demo"
      printf '%s: ' "$given"
      time env $given .venv/bin/advcam demo --out "$work/demo" --quiet > /dev/null
      .venv/bin/python -c "
import json, sys
found = json.load(open(sys.argv[1]))
print({name: [round(100 * found[name][key], 1) for key in ('mean_iou', 'noise')] for name in found if 'mean_iou' in found[name]})" "$work/demo/run/metrics.json"
    done ;;
esac
