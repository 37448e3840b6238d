#!/usr/bin/env bash
# From the maps of a run to masks by every way, to networks, and to networks with 60 masks by hand; `make results` makes the page of what it keeps.
#   chain.sh DATA [WORK] [ROWS]   # DATA: photos or defects, with the classifier that `make bench-quality` trains
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:-photos} work=${2:-runs/chain-$data} rows=${3:-ways advcam upper plain psa few weak unlabelled rounds}
python=.venv/bin/python advcam=${ADVCAM:-.venv/bin/advcam}
case $data in
  photos) steps=200 semi=150 crop=256 ;;
  defects) steps=150 semi=100 crop=224 ;;
esac
run=$work/run
[ -d "$run" ] || $python -m benchmarks.rows start "$data" "$run"
read -r train truth < <($python -m benchmarks.rows files "$data")
$advcam climb --run "$run" --quiet
[ -f "$work/few.txt" ] || shuf --random-source=<(yes) -n 60 "$train" | sort > "$work/few.txt"  # the 60 images with masks

if [[ " $rows " == *" ways "* ]]; then
  $python -m benchmarks.refinement "$run" "$truth" --data "$data" --work "$work/ways" --set "irn.crop=$crop" --set "psa.crop=$crop"
fi

$advcam refine --run "$run" --quiet
masks() {  # a run with masks of plain maps, of AdvCAMs, or of AdvCAMs by PSA; made once
  local made=(classify climb) how=(--maps "$1")
  [ "$1" != advcam ] || made+=(refine)
  [ "$1" != psa ] || how=(--method psa --refine-option "crop=$crop")
  [ -d "$work/masks-$1" ] || $python -m benchmarks.rows copy "$run" "$work/masks-$1" "${made[@]}"
  $advcam refine --run "$work/masks-$1" "${how[@]}" --quiet > /dev/null
}
row() {  # NAME MAPS VERB OPTIONS...: one training and its predictions of the images for scoring, of two rows with the CRF too
  local name=$1 maps=$2 verb=$3 from=masks-$2 steps=(classify climb refine); shift 3
  [[ " $rows " == *" $name "* ]] || return 0
  masks "$maps"
  [ "$name" != weak ] || from=advcam steps+=(segment)  # goes on from the network of the row advcam
  [ -d "$work/$name" ] || $python -m benchmarks.rows copy "$work/$from" "$work/$name" "${steps[@]}"
  $advcam "$verb" --run "$work/$name" --predict-scales 1,1.25 --crop "$crop" --quiet "$@"
  $python -m benchmarks.rows score "$work/$name" "$verb" "$truth" --data "$data" --name "$name"
  [[ "advcam upper" != *"$name"* ]] || $python -m benchmarks.rows score "$work/$name" "$verb" "$truth" --data "$data" --name "$name" --crf
}
segment=(--segment-option "steps=$steps" --segment-option "balanced=True")
alone=(--masks "$truth" --mode labelled --batch 16 --semi-option start=classifier --semi-option "steps=$steps")
few=(--pixel-labels "$work/few.txt" --masks "$truth" --batch 8 --semi-option "steps=$semi" --lr 1e-4 --head-lr 1e-3)
row advcam advcam segment "${segment[@]}"  # starts from the run's classifier, as do the next
row upper advcam semi --pixel-labels "$train" "${alone[@]}"
[[ " $rows " != *" advcam "* ]] || $python -m benchmarks.rows score "$work/advcam" segment "$truth" --data "$data" --name advcam --labels
row plain plain segment "${segment[@]}"
row psa psa segment "${segment[@]}"
row few advcam semi --pixel-labels "$work/few.txt" "${alone[@]}"
row weak advcam semi "${few[@]}" --mode weak --semi-option weak=1.0 --semi-option start=segment
row unlabelled advcam semi "${few[@]}" --mode unlabelled --semi-option "start=$work/few/5-semi/model.safetensors"
row rounds advcam segment "${segment[@]}" --segment-option rounds=2
