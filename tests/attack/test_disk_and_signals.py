"""A full disk, a folder that cannot be written and signals: one line says it, nothing done is lost, and the run goes on."""

import os
import random
import shutil
import signal
import subprocess

import pytest
from forked import Forks, Made, contents, differences, see_that_files_are_whole, temporaries

from conftest import NETWORK, arguments

STEPS = ("classify", "climb", "refine", "segment", "semi", "evaluate", "report")
TRAINING = ["--epochs", "2", "--crop", "64", "--batch", "8", "--workers", "0"]
PAGE = 4096
STOPPED = "advcam: stopped; the same command goes on from here"


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
def forks(tmp_path_factory):
    made = Forks(tmp_path_factory.mktemp("forks"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory, forks):
    return Whole(scenes, tmp_path_factory.mktemp("whole"), forks)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A file system of 32 MB and 2000 files."""
    folder = tmp_path_factory.mktemp("disk")
    words = ["mount", "-t", "tmpfs", "-o", "size=32m,nr_inodes=2000", "none", folder]
    try:
        mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount(8) here")
    if mounted.returncode:
        pytest.skip(f"this machine lets the tests mount no small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["mount", "-o", "remount,rw", folder], check=False)
    subprocess.run(["umount", folder], check=True)


def fill_pages(disk, left):
    """Leaves so many free pages on the disk."""
    with (disk / "ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, os.statvfs(disk).f_bavail * PAGE - left * PAGE)
    assert os.statvfs(disk).f_bavail == left


def fill_files(disk, left):
    """Leaves room for so many new files on the disk."""
    (disk / "ballast").mkdir()
    while os.statvfs(disk).f_favail > left:
        (disk / "ballast" / str(os.statvfs(disk).f_favail)).touch()


def clear(disk):
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_is_one_line_and_nothing_is_lost(forks, whole, disk, step):
    rng, made, failed = random.Random(step), whole.made[step], 0
    pages, files = whole.needs(step)
    amounts = [(fill_pages, left) for left in (0, 1, *(rng.randrange(max(1, pages)) for _ in range(3)))]
    for fill, left in [*amounts, (fill_files, 0), (fill_files, rng.randrange(max(1, files)))]:
        where = f"{step} with {left} free for {fill.__name__}"
        clear(disk)
        run = disk / "run"
        whole.before(step, run)
        fill(disk, left)
        done = forks(whole.words(step, run))
        print(where, done["status"], done["err"])
        if done["status"]:
            failed += 1
            assert done["status"] == 2, where
            assert len(done["err"]) == 1, where
            assert "the disk is full" in done["err"][0], where
            assert "free some space" in done["err"][0], where
            see_that_files_are_whole(run, made)
            assert not made.before.keys() - contents(run).keys(), where
            assert not temporaries(run), where
        (disk / "ballast").unlink() if fill is fill_pages else shutil.rmtree(disk / "ballast")
        done = forks(whole.words(step, run))
        assert done["status"] == 0, (where, done["err"])
        found = differences(contents(run), made.after)
        assert not found, where
        assert not temporaries(run), where
    assert failed >= 3


@pytest.mark.parametrize("step", STEPS)
def test_a_read_only_folder_is_one_line_and_nothing_is_lost(forks, whole, disk, step):
    clear(disk)
    run, made = disk / "run", whole.made[step]
    whole.before(step, run)
    if step in ("climb", "segment"):  # stopped halfway, with a temporary file
        assert forks(whole.words(step, run), at=made.operations // 2)["status"] == -signal.SIGKILL
    before = contents(run)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        done = forks(whole.words(step, run))
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    print(step, done["status"], done["err"])
    assert done["status"] == 2
    assert len(done["err"]) == 1
    assert "Read-only file system" in done["err"][0]
    assert "make the folder writable" in done["err"][0]
    assert contents(run) == before
    assert forks(whole.words(step, run))["status"] == 0
    found = differences(contents(run), made.after)
    assert not found


@pytest.mark.parametrize("step", ["climb", "segment"])
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
        if stopped == 8:
            break
    print(f"{step}: stopped {stopped} times by {number.name}")
    assert stopped == 8
