"""What the page says of corrected masks and of the log of the explorer."""

import numpy as np
import pytest
from test_page import Read, reported

from advcam.cli import main
from advcam.store import save_mask


@pytest.fixture
def corrected(run):
    save_mask(run / "corrected" / "masks" / "scene-00003.png", np.full((64, 64), 2, np.uint8))
    return run


@pytest.mark.parametrize(
    ("actions", "state"),
    [
        (["accept"], "accept"), (["accept", "fix"], "fix"), (["fix", "labels"], "fix"), (["reject"], "reject"),
        (["fix", "withdraw"], None), ([], None), (["<b>"], None),
    ],
)  # fmt: skip
def test_the_last_decision_counts(corrected, actions, state):
    lines = ["time,who,image,action", *(f"2026-11-29T10:00:00Z,me,scene-00003,{action}" for action in actions)]
    (corrected / "corrected" / "log.csv").write_text("\n".join(lines) + "\n")
    states = reported(corrected).image("scene-00003")["states"]
    assert {"corrected"} == states & {"corrected"}
    assert states & {"accept", "fix", "reject"} == ({state} if state else set())


def test_without_a_log_it_is_corrected(corrected):
    read = reported(corrected)
    assert read.image("scene-00003")["states"] & {"corrected", "accept", "fix", "reject"} == {"corrected"}
    assert "has a corrected mask (1)" in read.text
    assert "corrected" in read.data["index"]["layers"]


@pytest.mark.parametrize("log", [b"\xff\xfe", b"time,who\n1,2\n", b"time,who,image,action\nx\n"])
def test_a_damaged_log_is_said_and_the_masks_are_shown(corrected, log):
    (corrected / "corrected" / "log.csv").write_bytes(log)
    read = reported(corrected)
    assert "log.csv: cannot be read" in read.text
    assert "restore it, or delete it: the masks are kept" in read.text
    assert "corrected" in read.image("scene-00003")["states"]


def test_a_damaged_corrected_mask_is_named_and_the_others_are_shown(corrected, capsys):
    (corrected / "corrected" / "masks" / "scene-00004.png").write_bytes(b"no mask")
    assert main(["report", "--run", str(corrected), "--quiet"]) == 2
    assert "corrected/masks/scene-00004.png" in capsys.readouterr().err
    read = Read(corrected / "report.html")
    assert "wrong" in read.image("scene-00004")["states"]
    assert "corrected" in read.image("scene-00003")["states"]
