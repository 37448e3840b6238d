"""A run folder that came from somebody else: whatever its files say, commands end in a line of ours and touch nothing else."""

import copy
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from advcam.cli import main
from advcam.models import own
from conftest import arguments

STEPS = ("classify", "climb", "refine", "segment")
FILES = (
    "run.json", "data.json", "metrics.json", "1-classify/model.json", "1-classify/metrics.json", "4-segment/model.json",
    "4-segment/metrics.json",
)  # fmt: skip
HOSTILE = (
    None, True, -1, 0, 2**63, 1e300, 0.5, "", "text", "../../x", "/x", "x\0y", "<b>", "x" * 5000, [], [1], [[]], ["text", None],
    {}, {"x": 1}, [0, 0], [None, None], {"id": 1},
)  # fmt: skip
RAW = (
    b"", b"{", b"null", b"[]", b"3", b"\xff\xfe", b"NaN", b'{"x": NaN}', b"[" * 100_000, b'{"x":' * 50_000,
    b'{"key": ' + b"9" * 5000 + b"}", b'"\\ud800"', b"\0" * 64,
)  # fmt: skip


def verbs(run, scenes):
    """Every verb that reads a run folder."""
    place = ["--run", str(run), "--quiet"]
    return [
        ["report", *place],
        ["evaluate", *place, "--masks", str(scenes / "masks")],
        *([step, *place] for step in STEPS),
        ["refine", *place, "--redo"],
        ["climb-image", str(next((scenes / "images").iterdir())), "--model", str(run), "--out", str(run.parent / "image")],
        ["predict", "--model", str(run / "4-segment"), "--images", str(scenes / "images"), "--out", str(run.parent / "out")],
    ]  # fmt: skip


def places(value, where=()):
    """Every place in plain data, by the keys that lead there; of long lists the first two entries."""
    yield where
    entries = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in entries:
        yield from places(item, (*where, key))


def changed(value, where, new):
    """Plain data with one place changed; ``...`` takes it away."""
    if not where:
        return new
    made = copy.deepcopy(value)
    at = made
    for key in where[:-1]:
        at = at[key]
    if new is ...:
        del at[where[-1]]
    else:
        at[where[-1]] = new
    return made


@contextmanager
def spoiled(run, name, content):
    """The run with another content of a file; afterwards everything is as it was."""
    kept = run.parent / "kept"
    shutil.copytree(run, kept)
    (run / name).write_bytes(content)
    yield
    shutil.rmtree(run)
    kept.rename(run)


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def ends_well(command, capsys):
    """Runs a command; its last line is ours, whatever happened."""
    capsys.readouterr()
    try:
        status = main(command)
    except SystemExit as left:  # argparse
        status = left.code
    said = capsys.readouterr().err
    assert status in (0, 1, 2), (command, said)
    assert "advcam: unexpected" not in said, (command, said)
    assert "Traceback" not in said, (command, said)
    assert status != 2 or said.splitlines()[-1].startswith("advcam"), (command, said)
    return status


@pytest.mark.parametrize("name", [n if "/" not in n else pytest.param(n, marks=pytest.mark.slow) for n in FILES])
def test_any_edit_of_its_records_ends_in_a_line_of_ours(name, run, scenes, capsys):
    """Each place of each record is taken away, or becomes something else in turn; a verb for each edit, in turn."""
    good = json.loads((run / name).read_text())
    edits = [(where, new) for where in places(good) for new in (..., *HOSTILE) if where or new is not ...]
    most = int(os.environ.get("ATTACK_EDITS", "20"))
    chosen = edits[:: max(1, len(edits) // most)]
    commands = verbs(run, scenes)
    outside = tree(scenes)
    for at, (where, new) in enumerate(chosen):
        with spoiled(run, name, json.dumps(changed(good, where, new)).encode()):
            ends_well(commands[at % len(commands)], capsys)
    assert tree(scenes) == outside


@pytest.mark.parametrize("raw", RAW, ids=range(len(RAW)))
def test_what_is_no_record_is_refused_with_its_name(raw, run, scenes, capsys):
    commands = verbs(run, scenes)
    for at, name in enumerate(FILES):
        with spoiled(run, name, raw):
            ends_well(commands[at % len(commands)], capsys)


@pytest.mark.parametrize("name", ["../../x", "/x", "a/../../x", ".", "..", "", "a//b", "a/./b", "a\0b", "a/.."])
def test_an_id_that_leads_out_of_the_run_writes_nothing(name, run, scenes, tmp_path, capsys):
    data = json.loads((run / "data.json").read_text())
    data["train"][0]["id"] = name
    (run / "data.json").write_text(json.dumps(data))
    before = set(tmp_path.rglob("*"))
    for command in verbs(run, scenes)[:-1]:
        assert ends_well(command, capsys) == 2
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("step", ["2-climb", "3-refine", "3-refine/masks", "2-climb/maps"])
def test_nothing_is_written_or_removed_through_a_link(step, run, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(run / step, elsewhere)
    (elsewhere / ".advcam-0.txt").write_text("mine")
    (run / step).symlink_to(elsewhere)
    before, verb = tree(elsewhere), Path(step).parts[0][2:]
    assert ends_well([verb, "--run", str(run), "--quiet"], capsys) == 0  # it is done, and read
    assert main([verb, "--run", str(run), "--redo", "--quiet"]) == 2
    assert "is a link to" in capsys.readouterr().err
    assert tree(elsewhere) == before


def test_a_linked_lock_empties_nothing(run, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    (run / ".lock").symlink_to(tmp_path / "mine.txt")
    assert main(["climb", "--run", str(run), "--quiet"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "mine"


OPTIONS = {
    "call": "x",
    "step": "classify",
    "redo": True,
    "run": "/x",
    "steps": "many",
    "scales": [[1]],
    "mirror": "yes",
    "preset": [1],
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_no_verb_has_are_refused(name, run, capsys):
    state = json.loads((run / "run.json").read_text())
    state["steps"]["climb"]["config"][name] = OPTIONS[name]
    (run / "run.json").write_text(json.dumps(state))
    assert ends_well(["climb", "--run", str(run), "--redo", "--quiet"], capsys) == 2
    assert (run / "2-climb" / "maps").is_dir()


MARK = """import pathlib, timm
pathlib.Path({!r}).touch()

def build():
    net = timm.create_model("test_resnet", num_classes=5, output_stride=8)
    net.fc.bias = None
    return net
"""


def of_code(run, file):
    """Makes a run's classifier somebody's code, as the record of one that was code says."""
    path = run / "1-classify" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"own": f"{file}:build"}))


def test_code_that_a_run_names_is_not_run(run, scenes, tmp_path, capsys):
    file, mark = run / "x.py", tmp_path / "was-run"
    file.write_text(MARK.format(str(mark)))
    of_code(run, file)
    state = json.loads((run / "run.json").read_text())
    state["steps"]["classify"]["config"]["classifier"] = f"{file}:build"
    state["steps"]["classify"]["given"] = ["classifier"]
    (run / "run.json").write_text(json.dumps(state))
    for command in [*verbs(run, scenes), ["climb", "--run", str(run), "--redo"], ["classify", "--run", str(run), "--redo"]]:
        ends_well(command, capsys)
    assert not mark.exists()


def test_code_is_run_where_it_is_typed_and_then_remembered_until_it_changes(run, tmp_path, capsys):
    file, mark = run / "x.py", tmp_path / "was-run"
    file.write_text(MARK.format(str(mark)))
    of_code(run, file)
    climb = ["climb", "--run", str(run), "--redo", "--quiet"]
    assert main(climb) == 2
    assert f"with --classifier {file}:build" in capsys.readouterr().err  # the remedy, typed:
    assert main([*climb, "--classifier", f"{file}:build"]) == 0
    assert mark.exists()
    mark.unlink()
    assert main(climb) == 0
    assert mark.exists()
    mark.unlink()
    file.write_text(file.read_text() + "\n")
    assert main(climb) == 2
    assert not mark.exists()


def test_bytecode_beside_a_file_is_not_run(run, tmp_path, capsys):
    import importlib.util
    import py_compile

    file, mark = tmp_path / "x.py", tmp_path / "was-run"
    file.write_text(MARK.format(str(mark)))
    py_compile.compile(str(file), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assert Path(importlib.util.cache_from_source(str(file))).is_file()
    file.write_text(MARK.format("/dev/null"))
    of_code(run, file)
    main(["climb", "--run", str(run), "--redo", "--quiet", "--classifier", f"{file}:build"])
    assert not mark.exists()


@pytest.mark.parametrize("option", ["checkpoint_path", "pretrained_cfg", "pretrained", "pretrained_cfg_overlay", "cache_dir"])
def test_no_option_of_timm_loads_a_file_that_a_run_names(option, run, scenes, capsys):
    path = run / "1-classify" / "model.json"
    record = json.loads(path.read_text())
    record["backbone"]["options"] = {option: "/x.pth"}
    path.write_text(json.dumps(record))
    assert ends_well(["climb", "--run", str(run), "--redo", "--quiet"], capsys) == 2


def test_where_nothing_can_be_kept_code_runs_in_this_command_alone_and_a_line_says_so(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    file, mark = tmp_path / "mine.py", tmp_path / "was-run"
    file.write_text(MARK.format(str(mark)))
    of_code(run, file)
    typed = ["climb", "--run", str(run), "--redo", "--quiet", "--classifier", f"{file}:build"]
    assert main(typed) == 0
    assert "is allowed for this command only" in capsys.readouterr().err
    own._asked.clear()  # the command has ended
    assert main(typed[:5]) == 2
    assert f"with --classifier {file}:build" in capsys.readouterr().err


def test_what_is_typed_where_the_classifier_is_no_code_is_refused(run, capsys):
    for typed in ("x.py:build", "weights.pth"):
        assert main(["climb", "--run", str(run), "--redo", "--quiet", "--classifier", typed]) == 2
    said = capsys.readouterr().err
    assert "there is no file 'x.py'" in said
    assert "expected FILE.py:FUNCTION" in said
    assert (run / "2-climb" / "maps").is_dir()


@pytest.mark.parametrize("verb", ["segment", "evaluate", "run"])
def test_no_model_card_is_written_through_a_link(verb, run, scenes, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(run / "4-segment", elsewhere)
    (elsewhere / "README.md").write_text("mine")
    (run / "4-segment").symlink_to(elsewhere)
    masks = ["--masks", str(scenes / "masks")] if verb == "evaluate" else []
    command = arguments(scenes, run) if verb == "run" else [verb, "--run", str(run), "--quiet", *masks]
    assert ends_well(command, capsys) == 2
    assert (elsewhere / "README.md").read_text() == "mine"


ODD_NETWORKS = [
    {"pruned": True},
    {"features_only": True},
    {"act_layer": "x"},
    {"block": "x"},
    {"out_indices": [10**6]},
    {"x": {}},
    {"aux_params": {"classes": 3}},
    {"stem_width": 10**9},
    {"channels": [10**6]},
    {"layers": [10**5, 1, 1, 1]},
]


@pytest.mark.parametrize("options", ODD_NETWORKS, ids=lambda options: next(iter(options)))
def test_options_of_networks_that_cannot_be_are_refused(options, run, scenes, tmp_path, capsys):
    for name in ("1-classify", "4-segment"):
        path = run / name / "model.json"
        record = json.loads(path.read_text())
        record["backbone"]["options"] = options
        path.write_text(json.dumps(record))
    assert ends_well(["climb", "--run", str(run), "--redo", "--quiet"], capsys) == 2
    out = ["--images", str(scenes / "images"), "--out", str(tmp_path / "out"), "--quiet"]
    assert ends_well(["predict", "--model", str(run / "4-segment"), *out], capsys) == 2


def test_code_that_a_recipe_names_is_not_run(scenes, tmp_path, capsys):
    """A recipe may be somebody else's, as a run may."""
    ran = tmp_path / "ran"
    (tmp_path / "code.py").write_text(f"open({str(ran)!r}, 'w')\ndef net(): pass\n")
    (tmp_path / "theirs.toml").write_text(f'[classify]\nclassifier = "{tmp_path / "code.py"}:net"\n')
    words = [
        "--images",
        str(scenes / "images"),
        "--labels",
        str(scenes / "labels.csv"),
        "--recipe",
        str(tmp_path / "theirs.toml"),
    ]
    assert main(["run", *words, "--out", str(tmp_path / "run"), "--quiet"]) == 2
    assert "is code that this user has not allowed to run" in capsys.readouterr().err
    assert main(["classify", *words, "--run", str(tmp_path / "other"), "--quiet"]) == 2
    assert not ran.exists()
