"""The server of the explorer, as its page calls it."""

import base64
import csv
import errno
import json
import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

pytest.importorskip("starlette", reason="the extra `explore` is not installed: pip install 'advcam[explore]'")
from explore_helpers import TOKEN, explorer, served
from starlette.testclient import TestClient, WebSocketDenialResponse

from advcam.cli import main
from advcam.commands.explore import ExploreConfig
from advcam.data import Reading, load
from advcam.explore.live import Asked
from advcam.explore.pictures import KEPT, Pictures
from advcam.store import load_maps, load_mask, save_mask


class Page:
    """Calls the server as the page does."""

    def __init__(self, made, base="http://127.0.0.1:8765"):
        self.client = TestClient(served(made), base_url=base, raise_server_exceptions=False)
        self.explorer = made

    def get(self, call, **given):
        return self.client.get(f"/{TOKEN}/api/{call}", params=given)

    def open(self, name):
        answer = self.get("item", id=name)
        assert answer.status_code == 200, answer.text
        head, _, data = answer.content.partition(b"\n")
        about = json.loads(head)
        return about, np.frombuffer(data, np.uint8).reshape(about["size"])

    def decide(self, name, action, mask, version, **more):
        given = {"id": name, "action": action, "version": version, **more}
        return self.client.post(f"/{TOKEN}/api/decide", params=given, content=mask.tobytes())

    def draft(self, name, mask, version):
        return self.client.put(f"/{TOKEN}/api/draft", params={"id": name, "version": version}, content=mask.tobytes())

    def climb(self, **asked):
        with self.client.stream("POST", f"/{TOKEN}/api/climb", json=asked) as answer:
            return [json.loads(line) for line in answer.iter_lines()]


@pytest.fixture
def page(run, tmp_path):
    return Page(explorer(tmp_path / "scratch", run=run))


@pytest.fixture(scope="module")
def looking(finished, tmp_path_factory):
    """A page on a run that is only looked at."""
    return Page(explorer(tmp_path_factory.mktemp("scratch"), run=finished))


@pytest.fixture
def name(page):
    """A training image of the run."""
    return next(row["id"] for row in page.get("images").json()["images"] if not row["scored"])


def corrected(run, name):
    return run / "corrected" / "masks" / f"{name}.png"


def log(run):
    return list(csv.DictReader((run / "corrected" / "log.csv").read_text().splitlines()))


def maps_of(step):
    count, (height, width) = len(step["classes"]), step["size"]
    return np.frombuffer(base64.b64decode(step["maps"]), np.uint8).reshape(count, height, width)


# Who may ask.


@pytest.mark.parametrize(
    "path", ["/", "/wrong/", "/wrong/api/about", f"/{TOKEN}x/api/about", "/api/about", f"//{TOKEN}/api/about"]
)
def test_without_the_token_nothing_is_answered(looking, path):
    answer = looking.client.get(path)
    assert answer.status_code == 403
    assert "scene" not in answer.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200), ("localhost:9000", 200), ("[::1]:80", 200), ("192.168.0.7", 200),
        ("evil.example", 403), ("evil.example:8765", 403), ("127.0.0.1.evil.example", 403), ("", 403),
    ],
)  # fmt: skip
def test_foreign_hosts_are_refused(looking, host, status):
    assert looking.client.get(f"/{TOKEN}/api/about", headers={"host": host}).status_code == status


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:8765", "http://127.0.0.1:1"])
def test_pages_of_other_origins_are_refused(looking, origin):
    assert looking.client.get(f"/{TOKEN}/api/about", headers={"origin": origin}).status_code == 403
    assert looking.client.get(f"/{TOKEN}/api/about", headers={"origin": "http://127.0.0.1:8765"}).status_code == 200


def test_websockets_are_refused(looking):
    with pytest.raises(WebSocketDenialResponse), looking.client.websocket_connect(f"/{TOKEN}/"):
        pass


def test_the_page_loads_nothing_from_elsewhere(looking):
    answer = looking.client.get(f"/{TOKEN}/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    for file in (looking.client.get(f"/{TOKEN}/{name}") for name in ("app.js", "correct.js", "climb.js", "style.css")):
        assert file.status_code == 200
        assert "http://" not in file.text.replace("http://www.w3.org", "")
        assert "https://" not in file.text


@pytest.mark.parametrize("name", ["..%2fserver.py", "%2e%2e/server.py", "server.py", "../../../etc/passwd", "__init__.py"])
def test_no_other_file_is_served(looking, name):
    assert looking.client.get(f"/{TOKEN}/{name}").status_code in (403, 404)


# Climbing.


def test_a_climb_is_sent_step_by_step_and_ends_as_a_call_does(looking, finished):
    (model,) = looking.get("about").json()["models"]
    name = looking.get("images").json()["images"][0]["id"]
    best = looking.get("likely", model=model, id=name).json()[0]
    for changes, count in (({"steps": 3}, 3), ({"steps": 2, "scales": [1, 1.5]}, 4)):
        lines = looking.climb(model=model, image=name, classes=[best["at"]], preset="default", changes=changes, pane="a")
        assert lines[-1] == {"done": True}
        steps = lines[:-1]
        assert len(steps) == count
        asked = {"image": name, "model": model, "classes": [best["at"]], "preset": "default", "changes": changes}
        copied = looking.client.post(f"/{TOKEN}/api/copy", json=asked).json()
        names = {}
        exec(compile(copied["python"], "copied", "exec"), names)
        wanted = names["maps"].normalised()
        assert np.abs(maps_of(steps[-1]) / 255 - wanted.numpy()).max() < 0.005
        assert len({maps_of(step).tobytes() for step in steps}) > 1
        assert bool(copied["command"]) == (len(changes.get("scales", [1])) == 1)
        assert ("several" in copied["why"]) != bool(copied["command"])


def test_the_copied_command_gives_the_same_map(looking, tmp_path, monkeypatch):
    (model,) = looking.get("about").json()["models"]
    name = looking.get("images").json()["images"][0]["id"]
    best = looking.get("likely", model=model, id=name).json()[0]
    changes = {"steps": 2, "step_size": 0.03, "mirror": True, "ceiling": None}
    asked = {"image": name, "model": model, "classes": [best["at"]], "preset": "fast", "changes": changes}
    copied = looking.client.post(f"/{TOKEN}/api/copy", json=asked).json()
    monkeypatch.chdir(tmp_path)
    words = shlex.split(copied["command"])
    assert words[:2] == ["advcam", "climb-image"]
    assert main([*words[1:], "--quiet"]) == 0
    (made,) = (tmp_path / "climbed").glob("*.npz")
    names = {}
    exec(compile(copied["python"], "copied", "exec"), names)
    stored = load_maps(made)
    assert stored.classes == (best["id"],)
    wanted = names["maps"].normalised(tuple(stored.maps.shape[1:]))
    assert torch.allclose(stored.maps, wanted, atol=0.002)


def test_the_copied_command_of_an_image_in_an_archive(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "images" / "a.png")
    packed = shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "images")
    save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "w.safetensors")
    images = ExploreConfig.options()["images"].read(packed)  # as it is typed
    given = {"images": images, "models": ("timm:test_resnet",), "weights_file": tmp_path / "w.safetensors"}
    looking = Page(explorer(tmp_path / "scratch", **given))
    asked = {"image": "a", "model": "timm:test_resnet", "classes": [1], "preset": "fast", "changes": {"steps": 2}}
    copied = looking.client.post(f"/{TOKEN}/api/copy", json=asked).json()
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(copied["command"])[1:], "--quiet"]) == 0
    names = {}
    exec(compile(copied["python"], "copied", "exec"), names)
    stored = load_maps(tmp_path / "climbed" / "a.npz")
    assert torch.allclose(stored.maps, names["maps"].normalised(tuple(stored.maps.shape[1:])), atol=0.002)


def test_a_new_setting_stops_the_old_climb(looking):
    made = looking.explorer.live
    (model,) = made.models
    name = next(iter(made.pictures.files))

    def asked(pane):
        return made.steps(Asked(name, model, (0,), "default", {"steps": 50}, pane))

    old, beside = asked("left"), asked("right")
    assert next(old)["step"] == next(beside)["step"] == 1
    new = asked("left")
    assert next(new)["step"] == 1
    assert list(old) == []
    assert next(beside)["step"] == 2
    assert next(new)["step"] == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "steps"), ({"steps": "many"}, "steps"), ({"tau": 2}, "tau"), ({"scales": []}, "scales"),
        ({"nonsense": 1}, "no setting"),
        ({"method": "magic"}, "method is one of"), ({"steps": 10**9}, "at most"),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_said(looking, changes, said):
    (model,) = looking.get("about").json()["models"]
    asked = {"image": "x", "model": model, "classes": [0], "changes": changes}
    answer = looking.client.post(f"/{TOKEN}/api/climb", json=asked)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_what_cannot_be_climbed_is_said_in_the_stream(looking):
    (model,) = looking.get("about").json()["models"]
    name = next(iter(looking.explorer.live.pictures.files))
    assert "no image" in looking.climb(model=model, image="../../etc/passwd", classes=[0])[-1]["error"]
    assert "no model" in looking.climb(model="timm:other", image=name, classes=[0])[-1]["error"]
    assert "99" in looking.climb(model=model, image=name, classes=[99])[-1]["error"]


def test_a_dropped_image_is_climbed_and_forgotten_with_the_server(looking, scenes, tmp_path):
    file = sorted((scenes / "images").iterdir())[0]
    sent = looking.client.post(f"/{TOKEN}/api/drop", params={"name": "../<b>é.png"}, content=file.read_bytes()).json()["image"]
    (model,) = looking.get("about").json()["models"]
    lines = looking.climb(model=model, image=sent, classes=[0], changes={"steps": 1})
    assert lines[-1] == {"done": True}
    assert looking.explorer.pictures.path(sent).parent == looking.explorer.pictures.scratch
    assert looking.get("image", id=sent).content[:2] == b"\xff\xd8"
    refused = looking.client.post(f"/{TOKEN}/api/drop", params={"name": "a.png"}, content=b"no image")
    assert refused.status_code == 410
    assert refused.json()["error"].startswith("a.png: ")


def test_one_image_dropped_under_two_names_stays_until_both_are_forgotten(scenes, tmp_path):
    data = [path.read_bytes() for path in sorted((scenes / "images").iterdir())]
    pictures = Pictures({}, {}, Reading(), tmp_path)
    first, second = pictures.drop("a.png", data[0]), pictures.drop("b.png", data[0])
    for at in range(1, KEPT):
        pictures.drop(f"{at}.png", data[at])
    assert first not in pictures.dropped
    assert pictures.read(second).size == (64, 64)
    pictures.drop("last.png", data[KEPT])
    assert len(list(tmp_path.iterdir())) == KEPT, "the file is gone with its last name"


def test_a_folder_and_models_without_a_run(scenes, tmp_path):
    code = tmp_path / "two.py"
    code.write_text(
        "from conftest import SmallNet\n\n\ndef small():\n    return SmallNet()\n\n\ndef wide():\n    return SmallNet(7)\n"
    )
    models = (f"{code}:small", f"{code}:wide")
    page = Page(explorer(tmp_path / "scratch", images=scenes / "images", models=models))
    about = page.get("about").json()
    assert about["run"] is None
    assert about["models"] == [*models]
    assert len(about["images"]) == 24
    for model, count in zip(models, (4, 7), strict=True):
        assert len(page.get("likely", model=model, id=about["images"][0]).json()) == count
        assert page.climb(model=model, image=about["images"][0], classes=[0], changes={"steps": 2})[-1] == {"done": True}
        assert [one["at"] for one in page.get("named", model=model, text="3").json()] == [3]
    assert page.get("images").status_code == 422
    assert "--run RUN" in page.get("images").json()["error"]


def test_copied_code_of_a_network_of_timm_and_of_a_dropped_image(scenes, tmp_path, monkeypatch):
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), weights)
    given = {"images": scenes / "images", "models": ("timm:test_resnet",), "weights_file": weights, "long_side": 48}
    page = Page(explorer(tmp_path / "scratch", **given))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it's here.png").write_bytes(sorted((scenes / "images").iterdir())[2].read_bytes())
    data = (tmp_path / "it's here.png").read_bytes()
    sent = page.client.post(f"/{TOKEN}/api/drop", params={"name": "it's here.png"}, content=data).json()["image"]
    asked = {"image": sent, "model": "timm:test_resnet", "classes": [1, 4], "preset": "default", "changes": {"steps": 2}}
    last = page.climb(**asked)[-2]
    copied = page.client.post(f"/{TOKEN}/api/copy", json=asked).json()
    names = {}
    exec(compile(copied["python"], "copied", "exec"), names)
    wanted = names["maps"].normalised()
    assert np.abs(maps_of(last) / 255 - wanted.numpy()).max() < 0.005
    assert main([*shlex.split(copied["command"])[1:], "--quiet"]) == 0
    assert load_maps(tmp_path / "climbed" / "it's here.npz").classes == (1, 4)


# Correcting.


def test_images_with_what_is_known_of_them(page, run, scenes):
    page.explorer.correcting.compare()
    found = page.get("images").json()
    assert found["comparing"] == 0
    rows = {row["id"]: row for row in found["images"]}
    assert len(rows) == 24
    lowest = {}
    for row in csv.DictReader((run / "3-refine" / "scores.csv").read_text().splitlines()):
        lowest.setdefault(row["image"], float(row["score"]))
    assert {name: row["score"] for name, row in rows.items() if row["score"] is not None} == lowest
    scored = (scenes / "eval.txt").read_text().split()
    assert {name for name, row in rows.items() if row["scored"]} == {*scored}
    for name in scored:
        mask, other = (
            load_mask(path)
            for path in (run / "3-refine" / "masks" / f"{name}.png", run / "4-segment" / "predictions" / f"{name}.png")
        )
        known = mask != 255
        ids = np.unique(np.concatenate([mask[known], other[known]]))
        each = [((mask == i) & (other == i) & known).sum() / (((mask == i) | (other == i)) & known).sum() for i in ids]
        assert rows[name]["disagreement"] == pytest.approx(1 - np.mean(each)) if known.any() else True
    assert sorted(row["rank"] for row in rows.values()) == list(range(24))


def test_a_mask_comes_and_goes_to_the_byte(page, run, name):
    about, mask = page.open(name)
    assert about["source"] == "run"
    assert (mask == load_mask(run / "3-refine" / "masks" / f"{name}.png")).all()
    new = mask.copy()
    new[:5, :7], new[10, 3], new[-1, -1] = 255, 2, 5
    answer = page.decide(name, "save", new, about["version"], order="random", seconds="12.5")
    assert answer.json()["action"] == "fix"
    with Image.open(corrected(run, name)) as saved:
        assert saved.mode == "P"
        assert (np.asarray(saved) == new).all()
    (row,) = log(run)
    assert (row["image"], row["action"], row["order"], row["seconds"], row["who"]) == (name, "fix", "random", "12.5", "ann")
    assert int(row["pixels"]) == (new != mask).sum()
    again, mask = page.open(name)
    assert again["source"] == "corrected"
    assert (mask == new).all()
    assert page.get("images").json()["images"][0]["decision"] in ("", "fix")


def test_accept_reject_and_withdraw(page, run, name):
    about, mask = page.open(name)
    mask = np.where(mask == 255, 0, mask)
    save_mask(run / "3-refine" / "masks" / f"{name}.png", mask)
    answer = page.decide(name, "save", mask, about["version"]).json()
    assert answer["action"] == "accept"
    answer = page.decide(name, "reject", mask, answer["version"]).json()
    assert (load_mask(corrected(run, name)) == 255).all()
    answer = page.decide(name, "withdraw", mask, answer["version"]).json()
    assert not corrected(run, name).exists()
    assert [row["action"] for row in log(run)] == ["accept", "reject", "withdraw"]
    assert page.open(name)[0]["decision"] == {}
    assert answer["version"] == about["version"]


def test_drafts_are_kept_and_found_again(page, run, name):
    about, mask = page.open(name)
    new = mask.copy()
    new[3:9, 3:9] = 1
    version = page.draft(name, new, about["version"]).json()["version"]
    assert version != about["version"]
    found, kept = page.open(name)
    assert (found["source"], found["version"]) == ("draft", version)
    assert (kept == new).all()
    assert not corrected(run, name).exists()
    answer = page.client.delete(f"/{TOKEN}/api/draft", params={"id": name, "version": version}).json()
    assert answer["version"] == about["version"]
    assert (page.open(name)[1] == mask).all()


def test_two_pages_do_not_overwrite_each_other(page, name, run, tmp_path):
    other = Page(explorer(tmp_path / "scratch-2", run=run))
    (about, mask), (theirs, _) = page.open(name), other.open(name)
    assert about["version"] == theirs["version"]
    mine, his = mask.copy(), mask.copy()
    mine[:8], his[-8:] = 1, 2
    assert page.decide(name, "save", mine, about["version"]).status_code == 200
    for answer in (other.decide(name, "save", his, theirs["version"]), other.draft(name, his, theirs["version"])):
        assert answer.status_code == 409
        assert "nothing was overwritten" in answer.json()["error"]
    assert (load_mask(corrected(run, name)) == mine).all()
    assert other.decide(name, "save", his, other.open(name)[0]["version"]).status_code == 200
    assert (load_mask(corrected(run, name)) == his).all()


def test_many_writers_at_once_lose_no_line_of_the_log(page, run):
    from concurrent.futures import ThreadPoolExecutor

    names = [row["id"] for row in page.get("images").json()["images"]]

    def decide(name):
        about, mask = page.open(name)
        return page.decide(name, "reject", mask, about["version"]).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(decide, names)) == {200}
    assert sorted(row["image"] for row in log(run)) == sorted(names)


@pytest.mark.parametrize("spoil", ["short", "long", "other id", "empty"])
def test_masks_that_are_none_of_this_image_are_refused(page, run, name, spoil):
    about, mask = page.open(name)
    sent = {
        "short": mask[:-1],
        "long": np.vstack([mask, mask]),
        "other id": np.full_like(mask, 77),
        "empty": np.full_like(mask, 255),
    }[spoil]
    answer = page.decide(name, "save", sent, about["version"])
    assert answer.status_code == 422
    assert name in answer.json()["error"]
    assert not (run / "corrected" / "masks").exists()


def test_a_full_disk_is_said_and_nothing_is_lost(page, run, name, monkeypatch):
    about, mask = page.open(name)
    version = page.draft(name, mask, about["version"]).json()["version"]
    new = np.where(mask == 0, 3, mask).astype(np.uint8)
    real = os.fsync

    def full(handle):
        if os.readlink(f"/proc/self/fd/{handle}").endswith(".png"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr("advcam.store.atomic.os.fsync", full)
    answer = page.decide(name, "save", new, version)
    assert answer.status_code == 507
    assert "disk is full" in answer.json()["error"]
    assert not corrected(run, name).exists()
    assert (run / "corrected" / "log.csv").read_text() == ""
    assert (page.open(name)[1] == mask).all(), "the draft is still there"
    monkeypatch.undo()
    assert page.decide(name, "save", new, page.open(name)[0]["version"]).status_code == 200
    assert (load_mask(corrected(run, name)) == new).all()
    assert len(log(run)) == 1


def test_what_is_missing_or_spoiled_is_said(page, run, name, scenes):
    mask = run / "3-refine" / "masks" / f"{name}.png"
    save_mask(mask, np.zeros((5, 5), np.uint8))
    about, shown = page.open(name)
    assert "5x5" in about["notes"][0]
    assert (shown == 255).all()
    mask.write_bytes(b"no PNG")
    assert "cannot be read" in page.open(name)[0]["notes"][0]
    mask.unlink()
    assert "there is no mask" in page.open(name)[0]["notes"][0]
    number = page.open(name)[0]["maps"][0]
    (run / "2-climb" / "maps" / f"{name}.npz").write_bytes(b"no zip")
    answer = page.get("map", id=name, kind="advcam", **{"class": number})
    assert answer.status_code == 422
    assert "climb" in answer.json()["error"]
    assert page.get("item", id="../../run").status_code == 400


def test_an_image_that_is_gone_is_said(page, run, name, tmp_path):
    about = json.loads((run / "data.json").read_text())
    for part in ("train", "eval"):
        for item in about[part]:
            if item["id"] == name:
                item["path"] = str(tmp_path / "images" / f"{name}.png")
    (run / "data.json").write_text(json.dumps(about))
    page = Page(explorer(tmp_path / "scratch-2", run=run))
    answer = page.get("image", id=name)
    assert answer.status_code == 410
    assert "no such file" in answer.json()["error"]
    assert page.open(name)[0]["id"] == name


def test_a_run_that_is_gone_or_another_is_said(page, run, name):
    about, mask = page.open(name)
    record = json.loads((run / "data.json").read_text())
    record["classes"][0]["name"] = "another"
    (run / "data.json").write_text(json.dumps(record))
    assert page.decide(name, "save", mask, about["version"]).status_code == 409
    (run / "run.json").rename(run / "elsewhere.json")
    answer = page.decide(name, "save", mask, about["version"])
    assert answer.status_code == 409
    assert "is gone" in answer.json()["error"]
    assert not (run / "corrected" / "masks").exists()


def test_through_links_nothing_is_written(page, run, name, tmp_path):
    (run / "corrected").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (run / "corrected" / "masks").symlink_to(tmp_path / "elsewhere")
    about, mask = page.open(name)
    assert "is a link" in page.decide(name, "reject", mask, about["version"]).json()["error"]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_half_done_runs(scenes, tmp_path):
    from conftest import NETWORK

    out = tmp_path / "half"
    data = ["--images", str(scenes / "images"), "--labels", str(scenes / "labels.csv")]
    assert main(["classify", "--run", str(out), *data, *NETWORK]) == 0
    page = Page(explorer(tmp_path / "scratch", run=out))
    notes = page.get("about").json()["run"]["notes"]
    assert any("advcam climb --run" in note for note in notes)
    assert any("advcam refine --run" in note for note in notes)
    name = page.get("images").json()["images"][0]["id"]
    about, mask = page.open(name)
    assert about["maps"] == []
    assert (mask == 255).all()
    mask = np.zeros_like(mask)
    mask[4:20, 4:20] = 1
    assert page.decide(name, "save", mask, about["version"]).json()["action"] == "fix"
    assert "refine" in page.get("map", id=name, kind="refined", **{"class": 1}).json()["error"]


def test_maps_for_the_threshold(page, run, name):
    about, mask = page.open(name)
    for kind in ("advcam", "plain", "refined"):
        for number in about["maps"]:
            answer = page.get("map", id=name, kind=kind, **{"class": number})
            values = np.frombuffer(answer.content, np.uint8).reshape(about["size"])
            if kind != "refined":
                stored = load_maps(run / "2-climb" / ("maps" if kind == "advcam" else "cam") / f"{name}.npz")
                own = stored.maps[[stored.classes.index(number)]]
                full = torch.nn.functional.interpolate(own[None], size=tuple(about["size"]), mode="bilinear")[0, 0]
                assert np.abs(values / 255 - full.numpy()).max() <= 0.5 / 255 + 1e-6
            elif len(about["maps"]) == 1 and (mask != 255).all():  # the run's threshold makes the run's mask
                made = np.where(values / 255 > page.get("about").json()["run"]["thresholds"]["refined"], number, 0)
                assert (made == mask).mean() > 0.97
    absent = next(i for i in range(1, 6) if i not in about["maps"])
    assert page.get("map", id=name, kind="advcam", **{"class": absent}).status_code == 400


def test_regions_follow_edges(page, name, scenes):
    about, _ = page.open(name)
    found = np.frombuffer(page.get("regions", id=name, count=120).content, "<u2").reshape(about["size"])
    truth = load_mask(scenes / "masks" / f"{name}.png")
    count = len(np.unique(found))
    assert 60 < count < 240
    right = sum(np.bincount(truth[found == region]).max() for region in np.unique(found))
    blocks = np.add.outer(np.arange(64) // 6 * 11, np.arange(64) // 6)
    beside = sum(np.bincount(truth[blocks == block]).max() for block in np.unique(blocks))
    assert right > beside, "they hold one label more often than squares of that size"


# Labels.


def test_labels_are_corrected_in_a_form_that_a_run_reads(page, run, name, scenes):
    before = page.open(name)[0]["labels"]
    now = before | {"1": "absent", "2": "present", "3": "not sure"}
    answer = page.client.put(f"/{TOKEN}/api/labels", params={"id": name}, json={"labels": now, "was": before})
    assert answer.status_code == 200, answer.text
    assert page.open(name)[0]["labels"] == now
    (row,) = log(run)
    assert (row["image"], row["action"]) == (name, "labels")
    made = load(
        scenes / "images",
        run / "corrected" / "labels.csv",
        run / "corrected" / "classes.csv",
        None,
        None,
        lambda items, _n, _w: items,
    )
    items = {item.id: item for item in made.items}
    assert len(items) == 24
    assert 1 in items[name].labels
    assert 0 not in items[name].labels
    assert items[name].unknown == (2,)
    stale = page.client.put(f"/{TOKEN}/api/labels", params={"id": name}, json={"labels": before, "was": before})
    assert stale.status_code == 409
    odd = page.client.put(f"/{TOKEN}/api/labels", params={"id": name}, json={"labels": now | {"1": "perhaps"}, "was": now})
    assert odd.status_code == 400


# The command.


def test_a_missing_package_is_named(monkeypatch, capsys, finished):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "uvicorn" else real(name, *more))
    assert main(["explore", "--run", str(finished)]) == 2
    assert "pip install 'advcam[explore]'" in capsys.readouterr().err


def test_a_port_in_use_names_another(finished, capsys):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["explore", "--run", str(finished), "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"port {port} is in use; --port " in line


def test_what_must_be_given_is_said(capsys, tmp_path):
    assert main(["explore"]) == 2
    assert "--run RUN, or --model timm:NAME with --images DIR" in capsys.readouterr().err
    assert main(["explore", "--model", "resnet18", "--images", str(tmp_path)]) == 2
    assert main(["explore", "--run", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err


def test_the_command_serves_until_it_is_stopped(finished):
    import signal
    import urllib.request

    words = [sys.executable, "-m", "advcam", "explore", "--run", str(finished), "--port", "0", "--quiet"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            assert len(url.split("/")[3]) >= 32
            with urllib.request.urlopen(url + "api/about") as answer:
                assert json.load(answer)["run"]["who"]
        finally:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert url.split("/")[3] not in err
