"""Predictions shared out over a real Ray cluster of three machines, and over the processes of torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ray_cluster
from advcam.commands import Session
from advcam.commands.predict import PredictConfig, run
from advcam.data import scene
from advcam.errors import RunError, SettingsError
from advcam.progress import Reporter
from advcam.runtime import Runtime
from conftest import free_port

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.slow,
]
HOW = {"scales": (0.75, 1.0), "probabilities": True}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def machines():
    """A Ray cluster of three machines with a core each."""
    pytest.importorskip("ray", reason="pip install 'advcam[ray]'")
    with ray_cluster.machines() as made:
        yield made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Images of several kinds in a folder: a large one, one of whose range of values must be guessed, one that is broken."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "sub").mkdir()
    for seed in range(6):
        Image.fromarray(scene(seed).image).resize((90, 50)).save(folder / f"{seed}.png")
    Image.fromarray(scene(6).image).resize((300, 200)).save(folder / "sub" / "large.png")
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(folder / "sub" / "dark.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@pytest.fixture(scope="module")
def alone(trained, pictures, tmp_path_factory):
    """The masks that one process makes."""
    out = tmp_path_factory.mktemp("alone") / "masks"
    done = run(PredictConfig(model=trained, images=pictures, out=out, **HOW), Session(Runtime("cpu"), Reporter(quiet=True)))
    assert done.skipped == 1
    return below(out)


def below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def by_ray(machines, model, images, out, **more):
    session = Session(Runtime("cpu", engine="ray", address=machines.address, actors=2), Reporter())
    return run(PredictConfig(model=model, images=images, out=out, **HOW | more), session)


def test_a_cluster_gives_the_bytes_of_one_process(machines, trained, pictures, alone, tmp_path, monkeypatch, capsys):
    """Also where places are typed from the working folder, which other machines do not share."""
    monkeypatch.chdir(tmp_path)
    near = [Path(os.path.relpath(path)) for path in (trained, pictures)]
    assert by_ray(machines, *near, "masks").skipped == 1
    found = below(tmp_path / "masks")
    typed = {"skipped.csv": alone["skipped.csv"].replace(str(pictures).encode(), str(near[1]).encode())}
    assert found == alone | typed
    assert len(found) == 8 * 2 + 2
    said = capsys.readouterr().err
    assert f"advcam: warning: {near[1]}/sub/dark.png: " in said
    assert "1 of 8 images are shrunk by more than two, up to 300x200" in said
    for path in ("1.png", "probabilities/2.npz"):
        (tmp_path / "masks" / path).unlink()
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "masks").rglob("*.png")}
    assert by_ray(machines, *near, f"file://{tmp_path}/masks").skipped == 1
    assert below(tmp_path / "masks") == found
    changed = [path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert changed == ["2.png"], "only what was missing is made again"


def test_a_machine_that_does_not_have_the_images(machines, trained, pictures, tmp_path, monkeypatch):
    """Listed here, they are gone when another process looks for them."""
    from advcam.commands import predict as command

    monkeypatch.setattr(command, "list_images", lambda _images: {"a": tmp_path / "none" / "a.png"})
    with pytest.raises(SettingsError, match=r"of the Ray cluster: .*none is not there; the images must be on a disk"):
        by_ray(machines, trained, pictures, tmp_path / "masks")


def test_what_one_process_refuses(machines, trained, pictures, tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "x.png").touch()
    with pytest.raises(RunError, match="did not make; give another --out"):
        by_ray(machines, trained, pictures, tmp_path / "masks")
    with pytest.raises(SettingsError, match="memory://masks: is in the memory of this process"):
        by_ray(machines, trained, pictures, "memory://masks")


PROGRAM = """
import sys
from pathlib import Path
import torch
from advcam.commands import Session
from advcam.commands.predict import PredictConfig, run
from advcam.progress import Reporter
from advcam.runtime import Runtime

torch.set_num_threads(1)
model, images, out = map(Path, sys.argv[1:])
config = PredictConfig(model=model, images=images, out=out, scales=(0.75, 1.0), probabilities=True)
assert run(config, Session(Runtime("cpu"), Reporter(quiet=True))).skipped == 1
"""


def test_the_processes_of_torchrun_give_the_bytes_of_one(trained, pictures, alone, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    words = [*launch, str(tmp_path / "program.py"), str(trained), str(pictures), str(tmp_path / "masks")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert below(tmp_path / "masks") == alone
