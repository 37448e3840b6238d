"""Files appear whole or not at all, and a run killed at any moment resumes to the same result, byte for byte."""

import os
import random
import shutil
import signal
from collections import Counter

import pytest
from forked import Made, contents, differences, see_that_files_are_whole, temporaries

from conftest import NETWORK, arguments

KILLS = int(os.environ.get("ATTACK_KILLS", "50"))
IN_TIME = 0.25  # the share of kills that come after a random time, the others come at an operation on files
TRAINING = ["--epochs", "2", "--crop", "64", "--batch", "8", "--workers", "0"]
IRN = ["instances=True", "epochs=2", "crop=80", "batch=8"]


def chains(scenes, few, out):
    """Commands by chain, each chain a run of its own; together they take every step."""

    def chain(name, *commands):
        return [[verb, "--run", out / name, "--quiet", *more] for verb, *more in commands]

    masks, data = ["--masks", scenes / "masks"], arguments(scenes, "")[1:11]
    irn = [word for option in IRN for word in ("--refine-option", option)]
    return {
        "steps": chain(
            "steps",
            ["classify", *data, *NETWORK],
            ["climb", "--steps", "3", "--max-pixels", "8192"],
            ["refine"],
            ["segment", *TRAINING],
            ["semi", "--pixel-labels", few, *masks, *TRAINING],
            ["evaluate", *masks],
            ["report"],
            ["refine", "--redo", "--method", "threshold"],
        ),
        "irn": chain(
            "irn",
            ["classify", *data, *NETWORK],
            ["climb", "--steps", "2"],
            ["refine", "--method", "irn", *irn],
            ["segment", *TRAINING, "--segment-option", "rounds=2", "--segment-option", "sure=0"],
            ["evaluate", *masks],
        ),
        "run": [arguments(scenes, out / "run")],
    }


@pytest.fixture(scope="module")
def few(scenes, tmp_path_factory):
    """A list of four training images."""
    path = tmp_path_factory.mktemp("lists") / "few.txt"
    path.write_text("\n".join((scenes / "train.txt").read_text().split()[:4]))
    return path


@pytest.fixture(scope="module")
def never_killed(scenes, few, tmp_path_factory, forks):
    out, made = tmp_path_factory.mktemp("whole"), {}
    for name, commands in chains(scenes, few, out).items():
        made[name], before = [], {}
        for words in commands:
            done = forks(words)
            assert done["status"] == 0, "\n".join(done["err"])
            after = contents(out / name)
            made[name].append(Made(before, after, done["operations"], done["seconds"]))
            before = after
        assert not temporaries(out / name)
    return made


def killed_and_finished(forks, words, folder, made, rng):
    """Gives a command until it ends well, killed meanwhile at ever later moments; returns how often it was."""
    kills, left = 0, made.operations
    while left > 0:
        at = rng.randint(1, left)
        in_time = kills and rng.random() < IN_TIME  # the first kill is certain
        when = {"delay": rng.uniform(0, made.seconds)} if in_time else {"at": at, "after": rng.random() < 0.5}
        done = forks(words, **when)
        if done["status"] == 0:
            return kills
        assert done["status"] == -signal.SIGKILL, (when, done["err"])
        kills, left = kills + 1, left - at
        if folder.exists():
            see_that_files_are_whole(folder, made)
    done = forks(words)
    assert done["status"] == 0, "\n".join(done["err"])
    return kills


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_one_that_was_never_killed(scenes, few, tmp_path, forks, never_killed):
    kills, seed = Counter(), 0
    while not seed or kills.total() < KILLS:
        rng, out = random.Random(seed), tmp_path / str(seed)
        out.mkdir()
        for name, commands in chains(scenes, few, out).items():
            if seed and kills.total() >= KILLS:
                break
            for words, made in zip(commands, never_killed[name], strict=True):
                where = f"seed {seed}, {name}, {words[0]}"
                kills[f"{name}: {words[0]}{' --redo' * ('--redo' in words)}"] += killed_and_finished(
                    forks, words, out / name, made, rng
                )
                found = differences(contents(out / name), made.after)
                assert not found, where
                assert not temporaries(out / name), where
            shutil.rmtree(out / name)
        seed += 1
    print(f"\n{kills.total()} kills with {seed} seeds:", *(f"{count:5} {step}" for step, count in kills.items()), sep="\n")
    assert kills.total() >= KILLS
    assert min(kills.values()) > 0
