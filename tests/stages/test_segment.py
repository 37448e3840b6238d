"""Networks trained on masks, as people train them: ``advcam segment`` and ``advcam semi`` on a run of small scenes."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from advcam.cli import main
from advcam.data import Item
from advcam.errors import StoreError
from advcam.stages.segment import SegmentConfig
from advcam.stages.training_masks import sure_pixels
from advcam.store import load_mask, read_json, save_confidence, save_mask, write_json
from conftest import free_port

SMALL = ["--epochs", "1", "--crop", "64", "--batch", "8", "--workers", "0", "--quiet"]


@pytest.fixture(scope="module")
def few(scenes, tmp_path_factory):
    """A list of four training images, with and without suffix."""
    path = tmp_path_factory.mktemp("lists") / "few.txt"
    names = (scenes / "train.txt").read_text().split()[:4]
    path.write_text("\n".join([names[0], f"{names[1]}.png", *names[2:]]) + "\n")
    return path


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def segment(run, *more):
    return main(["segment", "--run", str(run), "--redo", *SMALL, *more])


@pytest.mark.parametrize(
    ("sizes", "crop"),
    [([(96, 128)], 128), ([(90, 100), (50, 60)], 128), ([(20, 20)], 64), ([(300, 400)], 256), ([(8000, 300)], 256), ([], 256)],
)
def test_a_crop_is_no_larger_than_the_largest_image(sizes, crop):
    """In steps of 32 pixels; the decoder's BatchNorm would take its statistics from the padding."""
    items = [Item(str(at), Path("image.png"), (), size) for at, size in enumerate(sizes)]
    assert SegmentConfig().augmentation(items).crop == crop
    assert SegmentConfig(crop=48).augmentation(items).crop == 48


def without_one(run):
    """A run whose climb has left out a training image, as where it ends each process that climbs it."""
    name = json.loads((run / "data.json").read_text())["train"][0]["id"]
    for file in (run / "2-climb" / "maps" / f"{name}.npz", run / "2-climb" / "cam" / f"{name}.npz"):
        file.unlink()
    for folder in ("3-refine", "4-segment"):
        shutil.rmtree(run / folder, ignore_errors=True)
    (run / "2-climb" / "skipped.csv").write_text(f"image,reason\n{name},the process that made it died 3 times\n")
    return name


@pytest.mark.parametrize("words", [["--method", "threshold"], ["--method", "psa", "--refine-option", "epochs=1"]])
def test_later_steps_pass_over_an_image_that_the_climb_left_out(run, scenes, few, words):
    name = without_one(run)
    assert main(["refine", "--run", str(run), "--redo", "--quiet", *words]) == 1
    assert not (run / "3-refine" / "masks" / f"{name}.png").exists()
    assert segment(run, "--segment-option", "steps=2") in (0, 1)
    assert len(list((run / "4-segment" / "predictions").iterdir())) == 8
    words = ["--pixel-labels", str(few), "--masks", str(scenes / "masks"), "--semi-option", "steps=2", *SMALL]
    assert main(["semi", "--run", str(run), *words]) in (0, 1)


@pytest.mark.parametrize("network", ["deeplabv2", "unet"])
def test_networks_by_name(run, scenes, network, tmp_path):
    assert segment(run, "--network", network) == 0
    record = read_json(run / "4-segment" / "model.json", dict)
    assert record["network"] == network
    assert len(list((run / "4-segment" / "predictions").iterdir())) == 8
    assert main(["predict", "--model", str(run / "4-segment"), "--images", str(scenes / "images"), "--out",
                 str(tmp_path / "masks"), "--quiet"]) == 0  # fmt: skip
    name = next((run / "4-segment" / "predictions").iterdir()).name
    assert (load_mask(tmp_path / "masks" / name) == load_mask(run / "4-segment" / "predictions" / name)).all()


def test_the_published_recipe_with_fewer_steps(run):
    assert segment(run, "--recipe", "deeplab-v2", "--segment-option", "steps=2", "--segment-option", "encoder=''") == 0
    made = json.loads((run / "run.json").read_text())["steps"]["segment"]["config"]
    assert (made["network"], made["optimizer"], made["lr"], made["balanced"]) == ("deeplabv2", "sgd", 2.5e-4, True)
    assert (made["steps"], made["crop"], made["batch"]) == (2, 64, 8), "an option and flags win over the recipe"
    assert made["predict_scales"] == [0.5, 0.75, 1.0, 1.25, 1.5]


def test_frozen_batch_norm_is_the_classifier_s_to_the_last_bit(run):
    words = ["--segment-option", "steps=2", "--segment-option", "encoder=''", "--segment-option", "start=classifier"]
    assert segment(run, "--recipe", "deeplab-v2", *words) == 0
    before, after = weights(run / "1-classify"), weights(run / "4-segment")
    norms = {name.removesuffix(".running_mean") for name in before if name.endswith(".running_mean")}
    equal = {n: torch.equal(after[f"encoder.model.{n}"], v) for n, v in before.items() if f"encoder.model.{n}" in after}
    frozen = {name: same for name, same in equal.items() if name.rpartition(".")[0] in norms}
    assert len(frozen) == 5 * len(norms) > 0, "weight, bias, mean, variance and count of each"
    assert all(frozen.values())
    assert not any(same for name, same in equal.items() if name not in frozen), "the convolutions were trained"


def test_a_recipe_of_ones_own(run, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text('about = "mine"\n[segment]\nnetwork = "fpn"\nema = 0.5\n')
    assert segment(run, "--recipe", str(tmp_path / "mine.toml")) == 0
    settings = json.loads((run / "run.json").read_text())["steps"]["segment"]["config"]
    assert (settings["network"], settings["ema"]) == ("fpn", 0.5)
    capsys.readouterr()
    for text, said in {
        "[segment]\nnetwrk = 'fpn'\n": "there is no setting 'netwrk'; did you mean network?",
        "[segment]\nema = 'much'\n": "ema is a number such as 0.99; got 'much'",
        "[segmnt]\n": "has 'segmnt', which is not a table of a step; did you mean segment or semi?",
        "[semi]\n": "has settings for semi, none for segment",
        "network =": "not TOML",
    }.items():
        (tmp_path / "mine.toml").write_text(text)
        assert segment(run, "--recipe", str(tmp_path / "mine.toml")) == 2
        assert said in capsys.readouterr().err
    assert segment(run, "--recipe", "deeplab") == 2
    assert "no recipe is called 'deeplab', and it is not a .toml file; did you mean deeplab-v2?" in capsys.readouterr().err
    assert (run / "4-segment" / "model.safetensors").is_file(), "a mistake costs nothing"


def test_killed_in_training_it_ends_with_the_same_weights(finished, tmp_path):
    """With moving average and a second round of self-training, bit for bit."""
    words = ["--segment-option", "rounds=2", "--segment-option", "sure=0", "--segment-option", "holdout=0.2", "--epochs", "2"]
    runs = [Path(shutil.copytree(finished, tmp_path / name)) for name in ("straight", "killed")]
    assert segment(runs[0], *words) == 0
    command = [sys.executable, "-m", "advcam", "segment", "--run", str(runs[1]), "--redo", *SMALL, *words]
    shutil.rmtree(runs[1] / "4-segment")  # so that what is seen is the new one's
    going = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = runs[1] / "4-segment" / "training.pt"
    states = (state, state.parent / "round-1" / "training.pt")
    while not any(path.is_file() for path in states) and going.poll() is None:
        time.sleep(0.01)
    going.kill()
    going.wait()
    assert not (runs[1] / "4-segment" / "model.safetensors").is_file()
    assert main(["segment", "--run", str(runs[1]), *SMALL, *words]) == 0
    assert same(weights(runs[0] / "4-segment"), weights(runs[1] / "4-segment"))
    assert (runs[1] / "4-segment" / "round-1" / "masks").is_dir()


def test_examples_are_looked_at_beside_the_weights(run):
    assert (run / "4-segment" / "look.png").is_file()
    with Image.open(run / "4-segment" / "look.png") as look:
        assert look.size[0] == 3 * 192


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda masks: masks[0].unlink(), r"1 of 16 images have no mask, the first is scene-"),
        (lambda masks: save_mask(masks[0], np.zeros((32, 64), np.uint8)), "is 64x32, its image 64x64"),
        (lambda masks: save_mask(masks[0], np.full((64, 64), 77, np.uint8)), "holds id 77, which is not a class of this run"),
        (lambda masks: [save_mask(m, np.full((64, 64), 255, np.uint8)) for m in masks], "hold only 255, ignored"),
        (lambda masks: [save_mask(m, np.zeros((64, 64), np.uint8)) for m in masks], "hold only background"),
        (lambda masks: masks[0].write_bytes(b"no image"), "cannot be read as a mask"),
    ],
)
def test_masks_that_cannot_be_learnt_from(run, scenes, spoil, said, capsys):
    """Said at once, with the remedy; mended, the same command goes on."""
    kept = run.parent / "kept"
    shutil.copytree(run / "3-refine", kept)
    spoil([run / "3-refine" / "masks" / f"{name}.png" for name in (scenes / "train.txt").read_text().split()])
    assert segment(run) == 2
    error = capsys.readouterr().err
    assert said in error
    assert f"advcam refine --run {run} --redo" in error
    shutil.rmtree(run / "3-refine")
    shutil.copytree(kept, run / "3-refine")
    assert main(["segment", "--run", str(run), *SMALL]) == 0


def test_a_class_list_that_changed(run, capsys):
    data = read_json(run / "data.json", dict)
    data["classes"][0]["name"] = "other"
    write_json(run / "data.json", data)
    assert segment(run) == 2
    assert "the classifier was made for the classes" in capsys.readouterr().err


def test_a_checkpoint_of_another_network(run, scenes, tmp_path, capsys):
    record = read_json(run / "4-segment" / "model.json", dict)
    write_json(run / "4-segment" / "model.json", record | {"network": "unet"})
    words = ["predict", "--model", str(run / "4-segment"), "--images", str(scenes / "images"), "--out", str(tmp_path / "out")]
    assert main([*words, "--quiet"]) == 2
    assert "model.safetensors: lacks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--segment-option", "loss=focal"], "loss is one of cross_entropy, bootstrapped, symmetric; got 'focal'"),
        (["--segment-option", "ema=1.5"], "ema must be at least 0 and below 1"),
        (["--segment-option", "optimizer=lamb"], "optimizer is one of adamw, sgd; got 'lamb'"),
        (["--segment-option", "start=nowhere"], "start is one of classifier, backbone; got 'nowhere'"),
        (["--segment-option", "rounds=0"], "rounds must be from 1 to 1000; got 0"),
        (["--segment-option", "oops"], "--segment-option takes KEY=VALUE, got 'oops'"),
        (["--segment-option", "scales=0.5"], "scales is two numbers such as 0.5,1.5; got 0.5"),
        (["--segment-option", "steps=1e4"], "steps is a whole number such as 30000; got 10000.0"),
        (["--segment-option", "predict_scales=one"], "predict_scales is numbers such as 1.0; got 'one'"),
        (["--accumulate", "3"], "multiple of 3"),
        (["--accumulate", "0"], "accumulate must be from 1 to 1000000; got 0"),
    ],
)
def test_settings_that_cannot_work(run, words, said, capsys):
    assert segment(run, *words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_segment(run):
    """The real launcher, the real command: one run, written by the first process, predictions shared out."""
    words = ["--network", "deeplabv2", "--segment-option", "batch_norm=frozen"]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port(),
        "-m", "--", "advcam", "segment", "--run", str(run), "--redo", *SMALL, *words,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("segment: ") == 1, "the first process speaks"
    shared = weights(run / "4-segment")
    assert len(list((run / "4-segment" / "predictions").iterdir())) == 8
    assert segment(run, *words) == 0
    for name, value in weights(run / "4-segment").items():
        torch.testing.assert_close(shared[name], value, rtol=1e-3, atol=1e-5)
    command[command.index("segment")] = "report"
    refused = subprocess.run(
        [*command[: command.index("--redo")], "--quiet"], capture_output=True, text=True, env=os.environ, timeout=600
    )
    assert "only advcam climb, refine, segment, predict run in several processes" in refused.stderr


@pytest.mark.parametrize(
    ("method", "mode"),
    [("cct", "labelled"), ("cct", "weak"), ("unimatch", "labelled"), ("unimatch", "unlabelled"), ("unimatch", "weak")],
)
def test_semi(run, scenes, few, method, mode):
    words = ["semi", "--run", str(run), "--pixel-labels", str(few), "--masks", str(scenes / "masks"), *SMALL]
    assert main([*words, "--method", method, "--mode", mode]) == 0
    folder = run / "5-semi"
    assert read_json(folder / "metrics.json", dict)["labelled"] == 4
    assert len(list((folder / "predictions").iterdir())) == 8
    assert f"4 images with masks made by hand; mode `{mode}`" in (folder / "README.md").read_text()
    assert main(["evaluate", "--run", str(run), "--masks", str(scenes / "masks"), "--quiet"]) == 0
    assert read_json(run / "metrics.json", dict)["semi"]["rule"].startswith(
        f"as written by the network of {method}, mode {mode}"
    )
    assert "Predictions, semi-supervised" in (run / "report.html").read_text()


def test_semi_killed_in_training_ends_with_the_same_weights(finished, scenes, few, tmp_path, monkeypatch):
    from advcam.training import checkpoint

    runs = [Path(shutil.copytree(finished, tmp_path / name)) for name in ("straight", "killed")]
    words = ["--pixel-labels", str(few), "--masks", str(scenes / "masks"), *SMALL, "--epochs", "2"]
    assert main(["semi", "--run", str(runs[0]), *words]) == 0
    save = checkpoint.Checkpoint.save

    def save_and_stop(self, *args, **kwargs):
        save(self, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoint, "save", save_and_stop)
    assert main(["semi", "--run", str(runs[1]), *words]) == 130
    monkeypatch.undo()
    assert main(["semi", "--run", str(runs[1]), "--workers", "0", "--quiet"]) == 0, "with the options of the run"
    assert same(weights(runs[0] / "5-semi"), weights(runs[1] / "5-semi"))


def test_semi_alone_needs_no_masks_of_the_run(run, scenes, few, capsys):
    for step in ("3-refine", "4-segment"):
        shutil.rmtree(run / step)
    state = json.loads((run / "run.json").read_text())
    state["steps"] = {name: state["steps"][name] for name in ("classify", "climb")}
    write_json(run / "run.json", state)
    words = ["semi", "--run", str(run), "--pixel-labels", str(few), "--masks", str(scenes / "masks"), *SMALL]
    assert main(words) == 2
    assert "semi needs refine, which is not done" in capsys.readouterr().err
    assert main([*words, "--mode", "unlabelled"]) == 0


def test_pixel_labels_that_cannot_be_used(run, scenes, few, tmp_path, capsys):
    def said(text, *more):
        (tmp_path / "list.txt").write_text(text)
        words = ["semi", "--run", str(run), "--pixel-labels", str(tmp_path / "list.txt"), "--masks", str(scenes / "masks")]
        assert main([*words, *SMALL, *more]) == 2
        return capsys.readouterr().err

    train = (scenes / "train.txt").read_text()
    assert "the list of images is empty" in said("\n")
    assert "none of its images can be used" in said("nobody\n")
    scored = (scenes / "eval.txt").read_text().split()[0]
    assert f"names '{scored}', which is scored on" in said(scored)
    assert "names every training image, so none is left for --mode weak" in said(train)
    assert "give the masks of" in said(train.split()[0], "--masks", str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "1 of 1 images have no mask" in said(train.split()[0], "--masks", str(tmp_path / "empty"))
    state = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", state | {"steps": {n: made for n, made in state["steps"].items() if n != "semi"}})
    assert main(["semi", "--run", str(run), *SMALL]) == 2
    assert "advcam semi needs --pixel-labels LIST" in capsys.readouterr().err


def test_new_masks_drop_what_was_learnt_from_them(run, scenes, few):
    words = ["semi", "--run", str(run), "--pixel-labels", str(few), "--masks", str(scenes / "masks"), *SMALL]
    assert main(words) == 0
    assert segment(run) == 0
    assert (run / "5-semi").is_dir(), "semi does not follow from segment"
    assert main(["refine", "--run", str(run), "--redo", "--method", "threshold", "--quiet"]) == 0
    assert not (run / "5-semi").exists()
    assert not (run / "4-segment").exists()


def test_a_mistake_in_redo_keeps_the_network(run, scenes, few, tmp_path, capsys):
    """Masks and lists are looked at before anything is dropped."""
    words = ["semi", "--run", str(run), "--pixel-labels", str(few), *SMALL]
    assert main([*words, "--masks", str(scenes / "masks"), "--mode", "labelled"]) == 0
    kept = (run / "5-semi" / "model.safetensors").stat().st_mtime_ns
    assert main([*words, "--redo", "--masks", str(tmp_path)]) == 2
    save_mask(run / "3-refine" / "masks" / f"{few.read_text().split()[2]}.png", np.full((64, 64), 99, np.uint8))
    assert segment(run) == 2
    assert (run / "5-semi" / "model.safetensors").stat().st_mtime_ns == kept
    assert (run / "4-segment" / "model.safetensors").is_file()


def test_new_masks_leave_a_network_that_never_saw_them(run, scenes, few):
    words = ["semi", "--run", str(run), "--pixel-labels", str(few), "--masks", str(scenes / "masks"), *SMALL]
    assert main([*words, "--mode", "labelled"]) == 0
    assert main(["refine", "--run", str(run), "--redo", "--method", "threshold", "--quiet"]) == 0
    assert (run / "5-semi" / "model.safetensors").is_file()
    assert not (run / "4-segment").exists()


def test_typed_options_win_over_remembered_flags(run):
    assert segment(run) == 0
    assert main(["segment", "--run", str(run), "--redo", "--workers", "0", "--quiet", "--segment-option", "crop=96"]) == 0
    state = json.loads((run / "run.json").read_text())
    assert state["steps"]["segment"]["config"]["crop"] == 96
    assert main(["segment", "--run", str(run), "--redo", "--workers", "0", "--quiet", "--segment-option", "crop=64"]) == 0
    made = json.loads((run / "run.json").read_text())["steps"]["segment"]
    assert made["config"]["crop"] == 64
    assert "crop" in made["given"]


def test_masks_of_one_bit_and_ids_that_are_no_class(run, scenes, few, tmp_path, capsys):
    shutil.copytree(scenes / "masks", tmp_path / "masks")
    names = few.read_text().split()
    Image.fromarray(np.eye(64, dtype=bool)).save(tmp_path / "masks" / f"{names[0]}.png")
    save_mask(tmp_path / "masks" / f"{names[2]}.png", np.full((64, 64), 99, np.uint8))
    words = ["semi", "--run", str(run), "--pixel-labels", str(few), "--masks", str(tmp_path / "masks"), *SMALL]
    assert main([*words, "--mode", "labelled"]) == 0
    assert "masks hold ids 99, which are not classes of this run and count as background" in capsys.readouterr().err


def test_names_that_are_no_images_are_listed(run, scenes, few, tmp_path, capsys):
    (tmp_path / "list.txt").write_text(few.read_text() + "nobody\n")
    words = ["semi", "--run", str(run), "--pixel-labels", str(tmp_path / "list.txt"), "--masks", str(scenes / "masks"), *SMALL]
    assert main([*words, "--mode", "labelled"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"1 left out, listed with reasons in {run / '5-semi' / 'skipped.csv'}"
    assert "nobody" in (run / "5-semi" / "skipped.csv").read_text()


def test_nothing_held_out_keeps_the_last_epoch(run):
    assert segment(run, "--segment-option", "holdout=0", "--epochs", "2") == 0
    metrics = read_json(run / "4-segment" / "metrics.json", dict)
    assert (metrics["held_out"], metrics["epoch_kept"]) == (0, "the last")


def test_own_masks_that_are_sure_of_nothing(run, capsys):
    assert segment(run, "--segment-option", "rounds=2", "--segment-option", "sure=0.9999") == 2
    assert "give --redo with rounds=1, or where all is 255 a lower sure" in capsys.readouterr().err


def test_semi_networks_that_do_not_go_together(run, scenes, few, capsys):
    words = ["semi", "--run", str(run), "--pixel-labels", str(few), "--masks", str(scenes / "masks"), *SMALL]
    assert main([*words, "--network", "deeplabv2"]) == 2
    assert "unimatch cannot perturb the features of deeplabv2" in capsys.readouterr().err


def test_semi_from_the_network_that_segment_trained(run, scenes, few, capsys):
    words = ["semi", "--run", str(run), "--pixel-labels", str(few), "--masks", str(scenes / "masks"), *SMALL]
    still = ["--semi-option", "start=segment", "--semi-option", "lr=1e-12", "--semi-option", "head_lr=1e-12"]
    assert main([*words, *still, "--semi-option", "weight_decay=0"]) == 0
    before, after = weights(run / "4-segment"), weights(run / "5-semi")
    assert all(torch.allclose(after[n], before[n], atol=1e-6) for n in after if n.endswith(".weight")), "nearly no training"
    assert main([*words, "--redo", "--semi-option", "start=segment", "--method", "cct"]) == 2
    assert "4-segment/model.safetensors: lacks" in capsys.readouterr().err
    assert (run / "5-semi" / "model.safetensors").is_file()
    shutil.rmtree(run / "4-segment")
    state = json.loads((run / "run.json").read_text())
    state["steps"].pop("segment")
    write_json(run / "run.json", state)
    assert main([*words, "--redo", "--semi-option", "start=segment"]) == 2
    assert "semi needs segment, which is not done; `advcam segment --run" in capsys.readouterr().err


def test_another_encoder_with_weights_of_its_own(run, tmp_path, capsys):
    import timm

    torch.save(timm.create_model("mobilenetv2_050").state_dict(), tmp_path / "mobile.pt")
    words = ["--segment-option", "encoder=mobilenetv2_050", "--segment-option"]
    assert segment(run, *words, f"encoder_weights={tmp_path / 'mobile.pt'}") == 0
    assert read_json(run / "4-segment" / "model.json", dict)["backbone"]["name"] == "mobilenetv2_050"
    assert f"The encoder started from `{tmp_path / 'mobile.pt'}`" in (run / "4-segment" / "README.md").read_text()
    assert segment(run, *words, f"encoder_weights={run / '1-classify' / 'model.safetensors'}") == 2
    assert "option encoder_weights=FILE" in capsys.readouterr().err
    assert segment(run, "--segment-option", "encoder=mobilnet") == 2
    assert "timm has no network 'mobilnet'; did you mean" in capsys.readouterr().err


def test_mended_masks_are_noticed(run, scenes, few, tmp_path, capsys):
    shutil.copytree(scenes / "masks", tmp_path / "masks")
    words = ["semi", "--run", str(run), "--pixel-labels", str(few), "--masks", str(tmp_path / "masks"), *SMALL]
    assert main([*words, "--mode", "labelled"]) == 0
    save_mask(tmp_path / "masks" / f"{few.read_text().split()[0]}.png", np.ones((64, 64), np.uint8))
    assert main([*words, "--mode", "labelled"]) == 2
    assert "was made with other settings (a file that they name has changed" in capsys.readouterr().err


def test_pixels_that_are_not_sure_are_left_out_of_training(run, capsys):
    """Masks stay whole; a network learnt with them differs, one that leaves out nothing is the same to the last bit."""
    folder = run / "3-refine"
    masks = sorted((folder / "masks").iterdir())
    for path in masks:  # the left half is sure
        save_mask(path, np.repeat(np.arange(64, dtype=np.uint8) // 32, 64).reshape(64, 64))
        save_confidence(folder / "confidence" / path.name, np.tile(np.repeat([0.9, 0.6], 32), (64, 1)), {})
    kept = [path.read_bytes() for path in masks]
    assert segment(run) == 0
    before = weights(run / "4-segment")
    assert segment(run, "--least-confidence", "0.5") == 0
    assert same(before, weights(run / "4-segment"))
    assert segment(run, "--least-confidence", "0.7") == 0
    assert not same(before, weights(run / "4-segment"))
    assert [path.read_bytes() for path in masks] == kept
    made = json.loads((run / "run.json").read_text())["steps"]["segment"]["config"]
    assert made["least_confidence"] == 0.7
    capsys.readouterr()
    assert segment(run, "--least-confidence", "0.95") == 2
    assert "hold only 255, ignored: there is nothing to learn" in capsys.readouterr().err
    shutil.rmtree(folder / "confidence")
    assert segment(run, "--least-confidence", "0.7") == 2
    error = capsys.readouterr().err
    assert "there is no such confidence map" in error
    assert "refine --run" in error


def test_which_pixels_are_sure(tmp_path):
    ids, sure = np.array([[0, 1, 2, 255]] * 4, np.uint8), np.array([[128, 203, 204, 255]] * 4) / 255
    save_mask(tmp_path / "masks" / "a" / "b.png", ids)
    save_mask(tmp_path / "masks" / "none.png", ids)
    save_confidence(tmp_path / "confidence" / "a" / "b.png", sure, {})
    given = {"masks": tmp_path / "masks", "confidence": tmp_path / "confidence"}
    found = sure_pixels(tmp_path / "masks" / "a" / "b.png", least=0.8, **given)
    assert found[0].tolist() == [255, 255, 2, 255]
    assert (sure_pixels(tmp_path / "masks" / "none.png", (4, 4), least=0.8, **given) == ids).all()
    with pytest.raises(StoreError):
        sure_pixels(tmp_path / "masks" / "a" / "b.png", (4, 5), least=0.8, **given)


def test_leaving_out_nothing_is_what_older_runs_did():
    """Their record lacks the option, and they must stay done."""
    assert "least_confidence" not in SegmentConfig().identity()
    assert SegmentConfig(least_confidence=0.5).identity()["least_confidence"] == 0.5
