"""The model card beside a trained network."""

import json

import pytest

from advcam.cli import main
from advcam.report.card import code, text


def test_the_card_beside_the_weights(finished, scenes):
    card = (finished / "4-segment" / "README.md").read_text()
    promised = (
        "deeplabv3plus on test_resnet", "16 images with image-level labels", "no mask made by hand was used",
        "8 images", "It was trained from random weights", "advcam predict --model RUN/4-segment",
    )  # fmt: skip
    for said in promised:
        assert said in card


def test_it_lists_the_classes_with_their_ids_and_how_well_each_is_found(finished, scenes):
    card = (finished / "4-segment" / "README.md").read_text()
    rows = [line.split(",") for line in (scenes / "classes.csv").read_text().split()[1:]]
    assert "Ids in masks: 0 background, " + ", ".join(f"{number} {name}" for number, name in rows) + "." in card
    found = json.loads((finished / "metrics.json").read_text())["predictions"]
    assert list(found["per_class"]) == ["background", *(name for _, name in rows)]
    assert f"mIoU {100 * found['mean_iou']:.1f} %, noise {100 * found['noise']:.1f} %" in card
    for name, value in found["per_class"].items():
        shown = "\N{EN DASH}" if value is None else f"{100 * value:.1f}"
        assert f"| {name} | {shown} |" in card


def test_without_ground_truth_it_says_how_to_compare(run):
    words = ["--epochs", "1", "--crop", "64", "--batch", "8", "--workers", "0", "--quiet"]
    (run / "metrics.json").unlink()
    assert main(["segment", "--run", str(run), "--redo", *words]) == 0
    card = (run / "4-segment" / "README.md").read_text()
    assert "Not compared with ground truth: `advcam evaluate --run RUN --masks DIR`" in card
    assert "| class | IoU % |" not in card


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("<b>cat</b>", "&lt;b&gt;cat&lt;/b&gt;"),
        ("[a](http://b)", r"\[a\](http://b)"),
        ("two\n\nlines # *of* `it`", r"two lines \# \*of\* \`it\`"),
        ("my_dog _runs_", r"my_dog \_runs\_"),
    ],
)
def test_names_are_shown_as_they_are_and_format_nothing(given, shown):
    assert text(given) == shown


def test_code_stays_within_its_backticks():
    assert code("a `b`\n```c") == "a 'b' '''c"
