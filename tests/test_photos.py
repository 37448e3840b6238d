"""The whole flow on 40 of the real photographs (../shared/photos); under four minutes on two cores."""

import json
import random

import pytest

from advcam.cli import main


@pytest.mark.photos
@pytest.mark.slow
def test_forty_photographs(photos, tmp_path):
    chosen = {}
    for name, count in (("train", 24), ("eval", 16)):
        lines = (photos / f"{name}.txt").read_text().split()
        chosen[name] = tmp_path / f"{name}.txt"
        chosen[name].write_text("\n".join(random.Random(0).sample(lines, count)))
    run = tmp_path / "run"
    words = [
        "run", "--images", photos / "images", "--labels", photos / "labels.csv", "--classes", photos / "classes.csv",
        "--train-list", chosen["train"], "--eval-list", chosen["eval"], "--out", run,
        "--backbone", "mobilenetv2_100", "--backbone-option", "pad_type=same", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5",
        "--weights", photos / "mobilenetv2_100.imagenet.safetensors", "--epochs", 8, "--batch", 8, "--crop", 256,
        "--train-scales", "0.7,1.1",
        "--steps", 5, "--segment-epochs", 3, "--segment-batch", 8, "--segment-crop", 256, "--quiet",
    ]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    assert main(["evaluate", "--run", str(run), "--masks", str(photos / "masks"), "--quiet"]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["average_precision"]["mean"] > 0.6  # 24 photographs teach an ImageNet network this much
    assert metrics["seed_advcam"]["mean_iou"] > metrics["seed_plain"]["mean_iou"] + 0.01
    assert metrics["seed_advcam"]["mean_iou"] > 0.35
    assert metrics["masks"]["mean_iou"] > 0.35
    assert metrics["predictions"]["split"] == "eval.txt, 16 images"
    assert (run / "report.html").stat().st_size > 100_000
