"""Precision on any processor."""

import json
import os
import subprocess
import sys

import pytest
import torch

from advcam import runtime
from advcam.cli import main
from advcam.errors import AdvcamWarning
from advcam.runtime import resolve_precision
from conftest import AS_IT_IS, NETWORK, python

EMULATED = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "default": {"ATEN_CPU_CAPABILITY": "default"},
}
LOOK = """
import json, torch, advcam
torch.manual_seed(0)
from advcam.runtime import has_bfloat16, resolve_precision
layers = torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 4)
net = torch.nn.Sequential(*layers)
images = torch.rand(1, 3, 32, 32)
maps = {p: advcam.AdvCAM(net, "fast", precision=p)(images, [[0, 1, 2, 3]]).maps for p in ("auto", "float32")}
print(json.dumps({
    "units": has_bfloat16("cpu"), "auto": resolve_precision("auto", torch.device("cpu")),
    "same": torch.equal(maps["auto"], maps["float32"]),
    "flags": [torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported()],
}))
"""


@pytest.mark.parametrize("emulated", [{}, *EMULATED.values()], ids=["as it is", *EMULATED])
def test_auto_takes_16_bits_only_where_there_are_units(emulated):
    found = python(LOOK, AS_IT_IS | emulated)
    if emulated:
        assert not found["units"]
    elif os.uname().machine == "x86_64" and not AS_IT_IS.keys() & {"ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"}:
        assert found["units"] == any(found["flags"])
    assert found["auto"] == ("bfloat16" if found["units"] else "float32")
    assert found["same"] != found["units"]


@pytest.mark.parametrize("units", [True, False])
def test_what_is_asked_for_is_taken(units, monkeypatch):
    monkeypatch.setattr(runtime, "has_bfloat16", lambda kind: units)
    device = torch.device("cpu")
    assert resolve_precision("float32", device) == "float32"
    assert resolve_precision("auto", device) == ("bfloat16" if units else "float32")
    if units:
        assert resolve_precision("bfloat16", device) == "bfloat16"
        return
    with pytest.warns(AdvcamWarning, match=r"emulated on this processor: two convolutions just took \d+\.\d times as long"):
        assert resolve_precision("bfloat16", device) == "bfloat16"


def test_other_devices():
    assert not runtime.has_bfloat16("mps")
    assert runtime.has_bfloat16("cuda") == (torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0))


def advcam(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "advcam", *map(str, words)], capture_output=True, text=True, env=AS_IT_IS | environment
    )


def precision(run, step):
    return json.loads((run / "run.json").read_text())["steps"][step]["precision"]


@pytest.fixture(scope="module")
def begun(scenes, tmp_path_factory):
    """A run whose classifier was trained in bfloat16, which this processor does without units too: one warning."""
    out = tmp_path_factory.mktemp("begun") / "run"
    files = ["--images", scenes / "images", "--labels", scenes / "labels.csv", "--eval-list", scenes / "eval.txt"]
    network = [word for word in NETWORK if word != "--quiet"]
    done = advcam("classify", "--run", out, *files, *network, "--train-precision", "bfloat16", **EMULATED["avx2"])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("advcam: warning: bfloat16 is emulated on this processor") == 1
    assert precision(out, "classify") == "bfloat16"
    return out


@pytest.mark.slow
def test_a_step_goes_on_in_the_precision_it_was_begun_in(begun):
    """Half done by a machine with units, taken up by one without."""
    assert (
        advcam("classify", "--run", begun, "--train-precision", "auto", **EMULATED["avx2"]).stderr
        == "classify: was done already\n"
    )
    state = json.loads((begun / "run.json").read_text())
    state["steps"]["classify"]["state"] = "running"  # as if it had been stopped behind the last epoch
    (begun / "run.json").write_text(json.dumps(state))
    (begun / "1-classify" / "model.safetensors").unlink()
    again = advcam("classify", "--run", begun, "--train-precision", "auto", **EMULATED["avx2"])
    assert again.returncode == 0
    assert "classify: resumes in bfloat16, in which it was started" in again.stderr
    assert precision(begun, "classify") == "bfloat16"
    refused = advcam("classify", "--run", begun, "--train-precision", "float32")
    assert refused.returncode == 2
    assert 'precision: "bfloat16" -> "float32"' in refused.stderr
    assert advcam("climb", "--run", begun, "--steps", "2", "--quiet", **EMULATED["avx2"]).returncode == 0
    assert precision(begun, "climb") == "float32"


def test_a_folder_of_predictions_goes_on_in_its_precision(trained, scenes, tmp_path, capsys):
    words = ["predict", "--model", trained, "--images", scenes / "images", "--out", tmp_path / "out", "--quiet"]
    words = [str(word) for word in words]
    assert main([*words, "--precision", "bfloat16"]) == 0
    assert capsys.readouterr().err.count("bfloat16 is emulated on this processor") == 1
    (tmp_path / "out" / "scene-00003.png").unlink()
    assert main(words) == 0  # precision auto, which would be float32 in a new folder
    assert json.loads((tmp_path / "out" / "predict.json").read_text())["precision"] == "bfloat16"
    assert main([*words, "--precision", "float32"]) == 2
    assert "made with other options (precision: bfloat16 -> float32)" in capsys.readouterr().err
