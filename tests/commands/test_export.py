"""Networks as files of other programs: what they give, what is refused, and that nothing wrong is left behind."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from advcam.cli import main
from advcam.commands import Session
from advcam.commands import export as room
from advcam.commands.export import ExportConfig, run
from advcam.errors import NetworkError, RunError, SettingsError
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.segmenter import Segmenter

CPU = torch.device("cpu")


class Small(nn.Module):
    """A convolution, whose weights it has under a name of its own."""

    def __init__(self, classes=4):
        super().__init__()
        self.layer = nn.Conv2d(3, classes, 3, padding=1)

    def forward(self, images):
        return self.layer(images)


class Flat(Small):
    """Takes one image of one size alone."""

    def forward(self, images):
        return self.layer(images.reshape(1, 3, 64, 96))


@pytest.fixture
def small(trained, monkeypatch):
    """Puts another network in the place of the folder's."""
    real = Segmenter.load

    def put(network):
        def load(folder, device):
            made = real(folder, device)
            return Segmenter(network.eval(), made.ids, made.normalise, made.long_side)

        monkeypatch.setattr(room.Segmenter, "load", load)
        return trained

    return put


def opened(path):
    """As other programs open it."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [part.name for part in (*session.get_inputs(), *session.get_outputs())] == ["images", "logits"]
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def export(model, out, size=None):
    return run(ExportConfig(model=model, out=Path(out), size=size), Session(Runtime("cpu"), Reporter(quiet=True))).lines


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_the_file_gives_what_the_network_gives(trained, tmp_path, suffix, capsys):
    """At sizes and numbers that it was neither made from nor compared at."""
    path = tmp_path / "files" / f"model{suffix}"
    assert main(["export", "--model", str(trained), "--out", str(path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("for any height and width in multiples of 32, any number at once; labels compared")
    assert said[-1] == f"network: {path}"
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, f"{path.name}.json"]
    network, run = Segmenter.load(trained, CPU).network, opened(path)
    for shape in ((1, 3, 64, 64), (3, 3, 96, 256), (5, 3, 192, 64)):
        images = torch.randn(shape)
        with torch.no_grad():
            expected, got = network(images), run(images)
        assert torch.allclose(got, expected, atol=1e-4)
        assert len(expected.argmax(1).unique()) > 1
    told = json.loads((path.parent / f"{path.name}.json").read_text())
    assert told["output"]["ids"] == [0, 7, 2, 9]
    assert told["output"]["names"] == ["background", "ring", "disc", "cross"]
    assert (told["input"]["height"], told["input"]["multiple_of"], told["input"]["long_side"]) == (None, 32, 64)
    assert len(told["input"]["mean"]) == len(told["input"]["std"]) == 3
    assert told["compared_pixels"] > 1000


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_one_size_where_it_is_asked_for(small, tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    (line,) = export(small(Small()), path, (64, 96))
    assert line.startswith("for 64x96, any number at once")
    assert opened(path)(torch.randn(4, 3, 64, 96)).shape == (4, 4, 64, 96)
    with pytest.raises(Exception, match=r"(?i)guard|invalid|dimension|shape"):
        opened(path)(torch.randn(1, 3, 96, 96))


def test_where_any_size_cannot_be_had_it_is_one_and_said(small, tmp_path):
    path = tmp_path / "model.pt2"
    lines = export(small(Flat()), path, (64, 96))
    assert lines[0].startswith("not for 64x96, any number at once: ")
    assert lines[1].startswith("for 64x96, 1 at once")
    told = json.loads((tmp_path / "model.pt2.json").read_text())
    assert (told["input"]["batch"], told["input"]["height"], told["input"]["width"]) == (1, 64, 96)
    with pytest.raises(NetworkError, match=r"other.pt2: the network cannot be exported .*give an --out that ends in .onnx"):
        export(small(Flat()), tmp_path / "other.pt2", (96, 96))
    assert not (tmp_path / "other.pt2").exists()


def test_a_file_that_gives_other_labels_is_not_left(small, tmp_path, monkeypatch):
    model, real = small(Small()), room._opened
    monkeypatch.setattr(room, "_opened", lambda path: lambda images: real(path)(images).roll(1, 1))
    with pytest.raises(NetworkError, match=r"other labels than the network on \d+ of \d+ pixels; give an --out that ends in"):
        export(model, tmp_path / "model.pt2", (64, 64))
    monkeypatch.setattr(room, "_opened", lambda path: lambda images: real(path)(images) * torch.nan)
    with pytest.raises(NetworkError, match="or NaN or infinity"):
        export(model, tmp_path / "model.pt2", (64, 64))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(room, "_opened", lambda path: lambda images: real(path)(images) + 4e-4 * torch.randn(()))
    export(model, tmp_path / "model.pt2", (64, 64))  # what rounding may change is no other label


@pytest.mark.parametrize(
    ("out", "size", "message"),
    [
        ("model.tflite", None, r"model.tflite: the suffix chooses the format; known: .onnx, .pt2"),
        ("model.pt2", (100, 64), r"HEIGHTxWIDTH in multiples of 32, at least 64, e.g. 512x640; got 100x64"),
        ("model.onnx", (32, 64), "got 32x64"),
    ],
)
def test_what_cannot_be_asked_for(trained, tmp_path, out, size, message):
    with pytest.raises(SettingsError, match=message):
        export(trained, tmp_path / out, size)


def test_libraries_that_are_not_there(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(room, "find_spec", lambda name: None if name == "onnxruntime" else importlib.util.find_spec(name))
    assert main(["export", "--model", str(trained), "--out", str(tmp_path / "model.onnx")]) == 2
    said = capsys.readouterr().err
    assert "needs onnxruntime, not installed here: pip install onnx onnxscript onnxruntime; --out FILE.pt2" in said
    with pytest.raises(SystemExit, match="2"):
        main(["export", "--model", str(trained), "--out", "model.onnx", "--size", "large"])
    assert "size is two numbers such as 512x640; got 'large'" in capsys.readouterr().err


def test_no_network_in_the_folder(trained, tmp_path):
    with pytest.raises(RunError, match="expected model.json and model.safetensors"):
        export(tmp_path, tmp_path / "model.pt2")
    shutil.copytree(trained, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(NetworkError, match="not a file of weights"):
        export(tmp_path / "model", tmp_path / "model.pt2")
