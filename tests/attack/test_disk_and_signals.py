"""A full disk, a folder that cannot be written and signals: one line says it, nothing done is lost, and the run goes on."""

import os
import random
import shutil
import signal
import subprocess
import sys

import pytest
from forked import Made, contents, differences, see_that_files_are_whole, temporaries

from conftest import NETWORK, arguments

STEPS = ("classify", "climb", "refine", "segment", "semi", "report", "evaluate")
TRAINING = ["--epochs", "2", "--crop", "64", "--batch", "8", "--workers", "0"]
PAGE = 4096
LARGE = "size=256m,nr_inodes=100k"
STOPPED = "advcam: stopped; give the same command again to resume"


class Whole:
    """A run that nothing happened to, as it was before each of its steps."""

    def __init__(self, scenes, folder, forks):
        self.folder, self.few, self.scenes, self.made = folder, folder / "few.txt", scenes, {}
        self.few.write_text("\n".join((scenes / "train.txt").read_text().split()[:4]))
        run = folder / "run"
        run.mkdir()
        for step in STEPS:
            shutil.copytree(run, folder / step)
            before = contents(run)
            done = forks(self.words(step, run))
            assert done["status"] == 0, "\n".join(done["err"])
            self.made[step] = Made(before, contents(run), done["operations"], done["seconds"])
        shutil.copytree(run, folder / "after")

    def words(self, step, run):
        """The command that takes a step of a run."""
        masks = ["--masks", self.scenes / "masks"]
        more = {
            "classify": [*arguments(self.scenes, "")[1:11], *NETWORK],
            "climb": ["--steps", "3", "--max-pixels", "8192"],
            "segment": TRAINING,
            "semi": ["--pixel-labels", self.few, *masks, *TRAINING],
            "evaluate": masks,
        }
        return [step, "--run", run, "--quiet", *more.get(step, [])]

    def before(self, step, run):
        """Makes a folder that of the run before a step."""
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.folder / step, run)

    def needs(self, step):
        """Pages and files that a step adds."""
        after = self.folder / (*STEPS, "after")[STEPS.index(step) + 1]
        pages, files = zip(_takes(self.folder / step), _takes(after), strict=True)
        return pages[1] - pages[0], files[1] - files[0]


def _takes(folder):
    paths = list(folder.rglob("*"))
    return sum(-(-p.stat().st_size // PAGE) for p in paths if p.is_file()), len(paths)


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory, forks):
    return Whole(scenes, tmp_path_factory.mktemp("whole"), forks)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A small file system of its own; no process but the tests' writes to it."""
    folder = tmp_path_factory.mktemp("disk")
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", LARGE, "none", folder], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no mount(8) here")
    if mounted.returncode:
        pytest.skip(f"this machine lets the tests mount no file system: {mounted.stderr.strip()}")
    yield folder
    remount(folder, "rw")
    subprocess.run(["umount", folder], check=True)


def remount(disk, options):
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def leave_pages(disk, left):
    """Lets the disk end so many pages behind what is used."""
    now = os.statvfs(disk)
    remount(disk, f"size={(now.f_blocks - now.f_bfree + left) * PAGE}")
    assert os.statvfs(disk).f_bfree == left


def leave_files(disk, left):
    """Lets the disk take so many more files and folders."""
    now = os.statvfs(disk)
    remount(disk, f"nr_inodes={now.f_files - now.f_ffree + left}")
    assert os.statvfs(disk).f_ffree == left


def clear(disk):
    """Makes the disk large and empty again."""
    remount(disk, LARGE)
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (disk / "ballast").write_bytes(bytes(PAGE))  # a size of nothing would be no limit


@pytest.mark.parametrize(
    "step", [step if step in ("climb", "refine") else pytest.param(step, marks=pytest.mark.slow) for step in STEPS]
)
def test_a_full_disk_is_one_line_and_nothing_is_lost(forks, whole, disk, step):
    rng, made = random.Random(step), whole.made[step]
    pages, files = whole.needs(step)
    amounts = [(leave_pages, left) for left in (0, *(rng.randrange(max(1, pages)) for _ in range(3)))]
    for fill, left in [*amounts, (leave_files, rng.randrange(max(1, files)))]:
        where = f"{step} with {left} free for {fill.__name__}"
        clear(disk)
        run = disk / "run"
        whole.before(step, run)
        fill(disk, left)
        done = forks(whole.words(step, run))
        print(where, done["status"], done["err"])
        assert done["status"] == 2, where
        assert len(done["err"]) == 1, where
        assert "the disk is full" in done["err"][0], where
        assert "free some space" in done["err"][0], where
        see_that_files_are_whole(run, made)
        assert not made.before.keys() - contents(run).keys(), where
        assert not temporaries(run), where
        remount(disk, LARGE)
        done = forks(whole.words(step, run))
        assert done["status"] == 0, (where, done["err"])
        found = differences(contents(run), made.after)
        assert not found, where
        assert not temporaries(run), where


@pytest.mark.parametrize("step", STEPS)
def test_a_read_only_folder_is_one_line_and_nothing_is_lost(forks, whole, disk, step):
    clear(disk)
    run, made = disk / "run", whole.made[step]
    whole.before(step, run)
    if step in ("climb", "segment"):  # stopped halfway, with a temporary file
        assert forks(whole.words(step, run), at=made.operations // 2)["status"] == -signal.SIGKILL
    before = contents(run)
    remount(disk, "ro")
    try:
        done = forks(whole.words(step, run))
    finally:
        remount(disk, "rw")
    print(step, done["status"], done["err"])
    assert done["status"] == 2
    assert len(done["err"]) == 1
    assert "Read-only file system" in done["err"][0]
    assert "make the folder writable" in done["err"][0]
    assert contents(run) == before
    assert forks(whole.words(step, run))["status"] == 0
    found = differences(contents(run), made.after)
    assert not found


@pytest.mark.parametrize("step", ["climb", pytest.param("segment", marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_stops_a_step_which_goes_on_to_the_same_result(forks, whole, tmp_path, step, number):
    rng, made, run, stopped = random.Random(f"{step} {number}"), whole.made[step], tmp_path / "run", 0
    for turn in range(40):
        whole.before(step, run)
        inside = {"at": rng.randint(1, made.operations), "after": rng.random() < 0.5}
        outside = {"at": rng.randint(1, made.operations), "delay": rng.uniform(0, made.seconds / 5)}
        when = outside if turn % 2 else inside
        done = forks(whole.words(step, run), number=number, **when)
        if done["status"] == 0:
            continue  # it had ended before
        stopped += 1
        if number == signal.SIGINT:
            assert (done["status"], done["out"], done["err"]) == (130, [], [STOPPED]), when
        else:
            assert done["status"] in (-number, 128 + number), when
            assert len(done["err"]) <= 1, when
        see_that_files_are_whole(run, made)
        done = forks(whole.words(step, run))
        assert done["status"] == 0, (when, done["err"])
        found = differences(contents(run), made.after)
        assert not found, when
        if stopped == 6:
            break
    print(f"{step}: stopped {stopped} times by {number.name}")
    assert stopped == 6


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_is_one_line_where_processes_read_images(forks, whole, tmp_path):
    rng, made, run = random.Random(0), whole.made["segment"], tmp_path / "run"
    for turn in range(6):
        whole.before("segment", run)
        words = [*whole.words("segment", run), "--workers", "2"]
        when = {"at": rng.randint(1, 30), "delay": rng.uniform(0, made.seconds / 5)}  # training is under way
        done = forks(words, number=signal.SIGINT, group=True, **when)
        print(turn, when, done["status"], done["err"][:1], done["err"][-1:])
        if done["status"]:
            assert (done["status"], done["out"], done["err"]) == (130, [], [STOPPED]), when
        assert forks(words)["status"] == 0
        found = differences(contents(run), made.after)
        assert not found, when


def test_ctrl_c_while_torch_is_loaded_is_one_line(tmp_path):
    program = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv[0] = "advcam"
from advcam.cli import main
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "report", "--run", tmp_path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.splitlines()) == (130, [STOPPED])
