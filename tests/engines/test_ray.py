"""Steps of a run on a real Ray cluster of three machines, each a raylet of its own on this one, and what dies there."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

import ray_cluster
from advcam.cli import main
from advcam.engines import Row, Unit, cluster, node, rows
from advcam.errors import RunError, SettingsError, StoreError
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.stages import climb
from advcam.stages.maps import recorded, units
from advcam.stages.sharing import opened
from advcam.store import sweep
from conftest import SEGMENT, contents
from ray_cluster import MACHINE

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'advcam[ray]'"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

BATCHES = ["--max-pixels", "16384"]
"""Four images of 64x64 a batch, so six batches."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def machines():
    """A Ray cluster of three machines with a core each."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the machines do not have the tests
    with ray_cluster.machines() as made:
        yield made


@pytest.fixture(scope="module")
def alone(finished, tmp_path_factory):
    """A run whose steps were taken by one process, in batches of four images."""
    made = Path(shutil.copytree(finished, tmp_path_factory.mktemp("alone") / "run"))
    for words in (["climb", "--redo", *BATCHES], ["refine"], ["segment"]):
        assert main([words[0], "--run", str(made), "--quiet", *words[1:]]) == 0
    return made


@pytest.fixture
def mine(alone, tmp_path):
    """A copy of it, to be changed."""
    return Path(shutil.copytree(alone, tmp_path / "run"))


def without_maps(run):
    for name in ("maps", "cam"):
        shutil.rmtree(run / "2-climb" / name)
    return run


def shared(machines, step, run, *words):
    return main([step, "--run", str(run), "--quiet", "--engine", "ray", "--address", machines.address, *words])


def test_the_three_steps_give_the_bytes_of_one_process(machines, alone, mine):
    without_maps(mine)
    for name in ("masks", "confidence"):
        shutil.rmtree(mine / "3-refine" / name)
    (mine / "3-refine" / "scores.csv").unlink()
    shutil.rmtree(mine / "4-segment" / "predictions")
    assert shared(machines, "climb", mine, *BATCHES) == 0
    assert shared(machines, "refine", mine, "--actors", "2") == 0
    assert shared(machines, "segment", mine, "--actors", "2") == 0
    folders = ("2-climb", "3-refine", "4-segment/predictions")
    assert contents(mine, *folders) == contents(alone, *folders)
    assert len(contents(mine, *folders)) > 24 * 4


# Work that ends its own process; it notes each call in a file, since nothing else of it survives.


def noting(folder, always, once):
    """Work that ends its process where some images are wanted: always, or the first time."""

    def work(unit):
        for name in unit.wanted:
            with (folder / f"{name}.tries").open("a") as file:
                file.write("x")
            if name in always:
                os._exit(7)
            if name in once and tries(folder, name) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        return [Row(name, value=float(len(unit.ids))) for name in unit.wanted]

    return work


def failing(_folder):
    raise StoreError("the disk is full")


def tries(folder, name):
    return len((folder / f"{name}.tries").read_text())


def made(machines, work, folder, parts, **more):
    runtime = Runtime(engine="ray", address=machines.address, **more)
    return {row.id: row for row in rows(parts, work, runtime, folder)}


BATCH = tuple("abcd")


def test_what_ends_its_process_is_tried_three_times_and_passed_over(machines, tmp_path):
    """An image of a batch that always does, and one that is killed once, of which nothing is lost."""
    parts = [Unit(BATCH, BATCH), *(Unit.single(name) for name in "efg")]
    found = made(machines, partial(noting, tmp_path, {"c"}, {"e"}), tmp_path, parts, actors=2)
    assert sorted(found) == list("abcdefg"), "every image has one row"
    assert {name for name, row in found.items() if row.left_out or row.error} == {"c"}
    assert found["c"].left_out == "the process that made it died 3 times; the last time it crashed or was killed"
    assert [tries(tmp_path, name) for name in "cdefg"] == [3, 1, 2, 1, 1]
    assert found["d"].value == 4, "made alone, but as one of its batch"


def test_errors_of_the_work_are_those_of_one_process(machines, tmp_path):
    with pytest.raises(StoreError, match=r"^the disk is full$"):
        made(machines, partial(failing, tmp_path), tmp_path, [Unit.single("a")], actors=1)


def test_where_every_process_dies_it_stops(machines, tmp_path):
    with pytest.raises(RunError, match="3 processes of the Ray cluster died one after another, while they loaded"):
        made(machines, partial(os._exit, 3), tmp_path, [Unit.single("a")], actors=1)


def of_machines(folder, bad):
    """Work that cannot be opened on one machine; on others, unit n is made once that has been tried n times."""
    import ray

    died = folder / "died"
    if ray.get_runtime_context().get_node_id() == bad:
        with died.open("a") as file:
            file.write("x")
        os._exit(3)

    def work(unit):
        ends = time.monotonic() + 300
        while time.monotonic() < ends and (died.stat().st_size if died.exists() else 0) < int(unit.ids[0]):
            time.sleep(0.05)
        return [Row(unit.ids[0])]

    return work


@pytest.mark.slow
def test_a_machine_where_every_process_dies_stops_no_cluster(machines, tmp_path):
    bad = sorted(machines.worker_nodes, key=lambda one: one.node_id)[0].node_id
    units = [Unit.single(f"{n}") for n in range(cluster.TRIES + 2)]
    found = made(machines, partial(of_machines, tmp_path, bad), tmp_path, units, actors=3)
    assert sorted(found) == ["0", "1", "2", "3", "4"]
    assert not any(row.error or row.left_out for row in found.values())
    assert (tmp_path / "died").stat().st_size > cluster.TRIES, "more often than would stop it if no other made anything"


def test_auto_is_the_device_of_the_machine_that_the_command_is_given_on(machines, tmp_path, monkeypatch):
    """A cluster without GPUs is not asked for one, and does not silently take the processor where the command has one."""
    work, parts = partial(noting, tmp_path, set(), set()), [Unit.single("a")]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(SettingsError, match="has a GPU, which --device cuda asks for; --device cpu does without"):
        made(machines, work, tmp_path, parts)
    assert Runtime(device="cpu", engine="ray").of_actor().device == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    there = Runtime(engine="ray").of_actor()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert there.torch_device().type == "cpu", "wherever it is sent"


NETWORK = """
import os
from pathlib import Path
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 5)

    def forward(self, x):
        deadly = Path(__file__).with_name("deadly")
        if deadly.exists() and bool((x.amin((2, 3)) == x.amax((2, 3))).all(1).any()):
            os._exit(9)
        return self.fc(self.pool(self.body(x)).flatten(1))


def build():
    torch.manual_seed(0)
    return Net()
"""


def test_a_climb_passes_over_an_image_that_ends_its_process(machines, scenes, finished, tmp_path, monkeypatch, capsys):
    """The network ends the process where it sees an image of one colour; all others have the bytes of a run without it."""
    from PIL import Image

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    images = Path(shutil.copytree(scenes / "images", tmp_path / "images"))
    Image.new("RGB", (64, 64), (90, 90, 90)).save(images / "scene-00005.png")
    (tmp_path / "net.py").write_text(NETWORK)
    run, code = tmp_path / "run", f"{tmp_path / 'net.py'}:build"
    data = ["--images", str(images), "--labels", str(scenes / "labels.csv"), "--classes", str(scenes / "classes.csv")]
    assert main(["classify", "--run", str(run), *data, "--classifier", code, "--quiet"]) == 0
    flow, two_steps = Path(shutil.copytree(run, tmp_path / "flow")), ["--preset", "default", "--steps", "2"]
    words = ["climb", "--run", str(run), "--quiet", *BATCHES, *two_steps]
    assert main(words) == 0
    whole = contents(run, "2-climb")
    without_maps(run)
    (tmp_path / "deadly").touch()
    capsys.readouterr()
    on_cluster = ["--engine", "ray", "--address", machines.address, "--actors", "2", "--classifier", code]
    assert main([*words, *on_cluster]) == 1
    said = capsys.readouterr()
    assert "climb: 1 images are left out, listed with the reason in" in said.err
    assert (run / "2-climb" / "skipped.csv").read_text().splitlines()[1].startswith("scene-00005,the process that made it died")
    kept = contents(run, "2-climb")
    gone = {f"2-climb/{name}/scene-00005.npz" for name in ("maps", "cam")}
    assert {name: data for name, data in kept.items() if name != "2-climb/skipped.csv"} == {
        name: data for name, data in whole.items() if name not in gone
    }
    encoder = ["encoder=test_resnet", f"encoder_weights={finished / '1-classify' / 'model.safetensors'}"]
    given = ["--method", "threshold", "--threshold", "0.3", *SEGMENT, *(w for e in encoder for w in ("--segment-option", e))]
    assert main(["run", "--out", str(flow), "--quiet", *data, *BATCHES, *two_steps, *on_cluster, *given]) == 1
    assert [line for line in capsys.readouterr().out.splitlines() if str(flow) in line] == [  # Ray may have its say between
        f"1 left out, listed with reasons in {flow / '2-climb' / 'skipped.csv'}",
        f"report: {flow / 'report.html'}",
        f"1 left out, listed with reasons in {flow / '3-refine' / 'skipped.csv'}",
    ]
    assert len(contents(flow, "4-segment/predictions")) == len(whole) // 2
    (tmp_path / "deadly").unlink()
    assert main(["refine", "--run", str(run), "--method", "threshold", "--quiet"]) == 1
    assert (run / "3-refine" / "skipped.csv").read_text().splitlines()[1] == "scene-00005,the climb has left it out"
    assert len(contents(run, "3-refine/masks")) == len(whole) // 2 - 1
    assert main(words) == 0, "the same command tries again"
    assert contents(run, "2-climb") == whole
    assert main(["refine", "--run", str(run), "--quiet"]) == 0
    assert len(contents(run, "3-refine/masks")) == len(whole) // 2


def test_a_machine_that_is_lost_loses_nothing(machines, alone, mine):
    runtime = Runtime(engine="ray", address=machines.address, max_pixels=16384)
    context = reopen(without_maps(mine), None, runtime, Reporter(quiet=True))
    config = recorded(context.run)
    parts = units(context, config, context.data.items)
    assert len(parts) == 6
    work = partial(opened, climb.saving, context.run, context.seed, runtime, None, config)
    going, found = rows(parts, work, runtime, mine), []
    found.append(next(going))
    machines.remove_node(machines.worker_nodes.copy().pop(), allow_graceful=False)
    found += list(going)
    machines.add_node(**MACHINE)
    assert sorted(row.id for row in found) == sorted(item.id for item in context.data.items), "each once"
    assert not any(row.error or row.left_out for row in found)
    sweep(mine)  # as the next step does: the machine may have died while it wrote a file
    assert contents(mine, "2-climb") == contents(alone, "2-climb")


@pytest.mark.slow
def test_a_command_that_is_stopped_or_killed_goes_on(machines, alone, mine, capsys):
    without_maps(mine)
    words = ["climb", "--run", str(mine), "--engine", "ray", "--address", machines.address, *BATCHES]
    for number, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        before = maps(mine)
        going = subprocess.Popen([sys.executable, "-m", "advcam", *words, "--actors", "1"], stderr=subprocess.PIPE, text=True)
        wait_for_more(mine, before, going)
        going.send_signal(signal.SIGSTOP)  # it hands out no more batches before it is told to end
        assert main(words) == 2
        assert "works there; wait until it has ended, or stop it" in capsys.readouterr().err
        going.send_signal(number)
        going.send_signal(signal.SIGCONT)
        said = going.communicate(timeout=300)[1]
        assert going.returncode == status
        assert "advcam: stopped; give the same command again to resume" in said or number == signal.SIGKILL
    assert maps(mine) < 48, "it was stopped before it was done"
    assert main(words) == 0
    sweep(mine)  # the last process of the command that was killed may have died while it wrote a file
    assert contents(mine, "2-climb") == contents(alone, "2-climb")


def maps(run):
    """How many files of maps are whole."""
    return len([*(run / "2-climb").rglob("[!.]*.npz")])


def works(run, process):
    """Whether the lock of a run is that of a process; it is not tried, as that would take it."""
    lock = run / ".lock"
    return lock.is_file() and f'"process": {process.pid},' in lock.read_text()


def wait_for_more(run, before, going):
    """Waits until a command works in a run and has written a map."""
    ends = time.monotonic() + 300
    while not works(run, going) or maps(run) <= before:
        assert going.poll() is None, going.communicate()[1]
        assert time.monotonic() < ends
        time.sleep(0.01)


# Clusters that cannot be used.


def test_a_machine_with_another_version(machines, mine, tmp_path, capsys):
    info = tmp_path / "old" / "torch-1.2.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.2.3\n")
    with other_machine(machines, info.parent):
        assert shared(machines, "climb", without_maps(mine), *BATCHES) == 2
    said = capsys.readouterr().err
    assert f"has torch 1.2.3, this process {torch.__version__.split('+')[0]}; results would differ" in said
    assert len(said.strip().splitlines()) == 1


BLOCK = """
import sys


class Block:
    def find_spec(self, name, path=None, target=None):
        if name == "advcam":
            raise ModuleNotFoundError("No module named 'advcam'", name=name)


sys.meta_path.insert(0, Block())
"""


def test_a_machine_without_advcam(machines, mine, tmp_path, capsys):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(BLOCK)
    with other_machine(machines, tmp_path / "bare"):
        assert shared(machines, "climb", without_maps(mine), *BATCHES) == 2
    said = capsys.readouterr().err
    assert "advcam is not installed for" in said
    assert len(said.strip().splitlines()) == 1


@contextlib.contextmanager
def other_machine(machines, packages):
    """Puts a machine with other packages in the place of one of the three."""
    machines.remove_node(machines.worker_nodes.copy().pop(), allow_graceful=True)
    odd = machines.add_node(**MACHINE, env_vars={"PYTHONPATH": str(packages)})
    yield
    machines.remove_node(odd, allow_graceful=True)
    machines.add_node(**MACHINE)


def test_no_gpu_and_too_many_cores(machines, mine, capsys):
    without_maps(mine)
    assert shared(machines, "climb", mine, "--device", "cuda", *BATCHES) == 2
    assert "none of the 3 machines of the Ray cluster has a GPU, which --device cuda asks for" in capsys.readouterr().err
    torch.set_num_threads(2)
    try:
        assert shared(machines, "climb", mine, *BATCHES) == 2
    finally:
        torch.set_num_threads(1)
    assert "none of the 3 machines of the Ray cluster has 2 cores at once; OMP_NUM_THREADS=1" in capsys.readouterr().err


def test_a_folder_that_a_machine_does_not_have_or_cannot_write(tmp_path):
    (tmp_path / "known").touch()
    assert node.look(str(tmp_path / "known"))["folder"] == ""
    assert [path.name for path in tmp_path.iterdir()] == ["known"]
    assert node.look(str(tmp_path / "unknown"))["folder"] == "is not there"
    assert node.look("/proc/version")["folder"].startswith("cannot be written (")
    said = list(cluster._lacks(node.look("/proc/version"), Path("/proc")))
    assert len(said) == 1
    assert said[0].endswith("the run folder must be on a disk that all machines share, at the same path")


def test_nobody_answers(mine, capsys, monkeypatch):
    without_maps(mine)
    monkeypatch.setattr(cluster, "ANSWER", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and says nothing
        port = silent.getsockname()[1]
        start = time.monotonic()
        assert main(["climb", "--run", str(mine), "--quiet", "--engine", "ray", "--address", f"127.0.0.1:{port}"]) == 2
        assert time.monotonic() - start < 100  # Ray itself would try for a quarter of an hour
    said = capsys.readouterr().err
    assert f"Ray at 127.0.0.1:{port}: no answer within 3 seconds; `ray start --head`" in said
    assert len(said.strip().splitlines()) == 1
    assert main(["climb", "--run", str(mine), "--quiet", "--engine", "ray", "--address", f"127.0.0.1:{port}"]) == 2
    assert "no answer within 3 seconds (Connection refused)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "said"),
    [("ray://10.0.0.1:10001", "a client's address is not enough"), ("10.0.0.1", "is HOST:PORT of a Ray cluster")],
)
def test_addresses_that_are_none(mine, capsys, address, said):
    assert main(["climb", "--run", str(without_maps(mine)), "--quiet", "--engine", "ray", "--address", address]) == 2
    assert said in capsys.readouterr().err


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"--engine ray needs Ray, which is not installed: pip install 'advcam\[ray\]'"):
        Runtime(engine="ray")


def test_options_of_a_cluster_without_one():
    with pytest.raises(SettingsError, match="--actors is of a Ray cluster: give --engine ray too"):
        Runtime(actors=2)
