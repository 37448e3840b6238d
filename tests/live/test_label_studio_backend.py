"""Label Studio's machine learning backend: requests as it sends them, and its package's checks of the answers."""

import json
import shutil
import sys

import numpy as np
import pytest

from advcam.errors import DataError, SettingsError
from advcam.formats.label_studio import unpacked
from advcam.live import Annotator
from advcam.live.label_studio import MAX_BODY, Backend, application, main

NAMES = ("cross", "dots", "quarters", "ring", "triangle", "unsure")
BRUSH = '<BrushLabels name="{}" toName="photo">' + "".join(f'<Label value="{name}"/>' for name in NAMES) + "</BrushLabels>"
CONFIG = f'<View><Image name="photo" value="$url"/>{BRUSH.format("what")}</View>'
SEVERAL = f'<View><Image name="photo" value="$url"/>{BRUSH.format("first")}{BRUSH.format("second")}</View>'


@pytest.fixture(scope="module")
def backend(finished, scenes):
    return Backend(Annotator(finished, "masks"), scenes / "images")


def body(**request):
    return json.dumps(request).encode()


def tasks(*names, variable="url"):
    return [{"id": at, "data": {variable: name}, "annotations": [{"result": []}]} for at, name in enumerate(names)]


def test_a_prediction_is_the_mask_in_the_names_of_the_configuration(backend, scenes):
    names = ["scene-00000.png", "scene-00003.png"]
    asked = tasks(f"/data/upload/7/0a1b2c3d-{names[0]}", f"http://localhost/data/local-files/?d=folder/{names[1]}")
    answer = backend.predict(body(tasks=asked, project="7.123", label_config=CONFIG, params={"context": None}))
    assert answer["model_version"] == backend.annotator.version
    assert len(answer["results"]) == 2
    for name, found in zip(names, answer["results"], strict=True):
        expected = backend.annotator(backend.annotator.read(scenes / "images" / name), name)
        assert found["model_version"] == backend.annotator.version
        assert found["score"] == min(expected.scores.values())
        ids = np.zeros(expected.ids.shape, np.uint8)
        for region in found["result"]:
            assert (region["from_name"], region["to_name"], region["type"]) == ("what", "photo", "brushlabels")
            size = (region["original_height"], region["original_width"])
            (label,) = region["value"]["brushlabels"]
            place = unpacked(bytes(region["value"]["rle"]), 4 * size[0] * size[1])[3::4].reshape(size) > 0
            ids[place] = NAMES.index(label) + 1
        assert np.array_equal(ids, np.where(expected.ids == 255, 0, expected.ids))


def test_setup_checks_the_configuration(backend):
    assert backend.setup(body(project="1.1", schema=CONFIG, access_token="x")) == {"model_version": backend.annotator.version}
    assert backend.setup(body(project="1.1"))["model_version"]
    with pytest.raises(DataError, match="labelling configuration: has no <BrushLabels>"):
        backend.setup(body(schema="<View/>"))
    with pytest.raises(SettingsError, match="what has no <Label value='ring'>"):
        backend.setup(body(schema=CONFIG.replace("ring", "bracelet")))
    with pytest.raises(DataError, match="labelling configuration:1: not valid XML"):
        backend.setup(body(schema="<View"))


def test_of_several_brushes_one_is_named(backend, scenes):
    with pytest.raises(SettingsError, match="has the brushes first, second; choose one with --from-name"):
        backend.setup(body(schema=SEVERAL))
    named = Backend(backend.annotator, scenes / "images", "second")
    (found,) = named.predict(body(tasks=tasks("scene-00000.png"), label_config=SEVERAL))["results"]
    assert {region["from_name"] for region in found["result"]} == {"second"}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (b"", "not a request of Label Studio's"),
        (b"\xff{}", "not a request of Label Studio's"),
        (b"[" * 10_000, "not a request of Label Studio's"),
        (body(tasks=[], schema=CONFIG), "not a request of Label Studio's"),
        (body(tasks=[{"data": []}], label_config=CONFIG), "not a request of Label Studio's"),
        (body(tasks=tasks("/data/none.png"), label_config=CONFIG), "'/data/none.png': there is no such image in"),
        (body(tasks=tasks("../../run.json"), label_config=CONFIG), "there is no such image in"),
        (body(tasks=tasks("a.png", variable="image"), label_config=CONFIG), "expected 'url' in its data, got image"),
        (body(tasks=tasks(["a.png"]), label_config=CONFIG), "expected 'url' in its data, got url"),
    ],
)
def test_requests_that_cannot_be_answered(backend, request_, message):
    with pytest.raises(DataError, match=message):
        backend.predict(request_)


def test_an_image_that_cannot_be_read_is_an_error(finished, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png"):
        Backend(Annotator(finished), tmp_path).predict(body(tasks=tasks("a.png"), label_config=CONFIG))


@pytest.mark.filterwarnings("ignore")
def test_over_the_web(backend, capsys):
    pytest.importorskip("starlette", reason="starlette is not installed (extra label-studio)")
    pytest.importorskip("httpx", reason="httpx is not installed, which starlette's test client needs")
    from starlette.testclient import TestClient

    client, version = TestClient(application(backend)), backend.annotator.version
    for address in ("/", "/health"):
        assert client.get(address).json() == {"status": "UP", "model_class": "advcam"}
    assert client.get("/versions").json()["versions"] == [version]
    assert client.post("/setup", json={"schema": CONFIG}).json() == {"model_version": version}
    asked = {"tasks": tasks("scene-00000.png"), "label_config": CONFIG}
    assert client.post("/predict", json=asked).json() == backend.predict(json.dumps(asked).encode())
    refused = client.post("/predict", json=asked | {"tasks": tasks("none.png")})
    assert refused.status_code == 400
    assert "there is no such image" in refused.json()["error"]
    assert "there is no such image" in capsys.readouterr().err
    assert client.post("/predict", content=b" " * (MAX_BODY + 1)).status_code == 413
    assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 200


def test_label_studios_own_package_accepts_the_answers(backend):
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    answer = backend.predict(body(tasks=tasks("scene-00000.png", "scene-00003.png"), label_config=CONFIG))
    assert all(interface.LabelInterface(CONFIG).validate_prediction(found) for found in answer["results"])


def test_images_in_an_archive(finished, scenes, tmp_path, monkeypatch):
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra label-studio)")
    packed, served = shutil.make_archive(str(tmp_path / "photos"), "zip", scenes, "images"), []
    monkeypatch.setattr(uvicorn, "run", lambda app, **_: served.append(app))
    assert main([str(finished), "--of", "masks", "--images", f"{packed}/images"]) == 0
    client = pytest.importorskip("starlette.testclient").TestClient(served[0])
    answer = client.post("/predict", content=body(tasks=tasks("scene-00000.png"), label_config=CONFIG))
    assert answer.status_code == 200
    assert answer.json()["results"][0]["result"]


def test_what_the_command_says(finished, scenes, tmp_path, capsys, monkeypatch):
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra label-studio)")
    assert main([str(tmp_path), "--images", str(scenes / "images")]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert main([str(finished), "--images", str(tmp_path)]) == 2
    assert "no image in it" in capsys.readouterr().err
    assert main([str(finished), "--images", "http://me:S3CRET@host/imgs"]) == 2
    assert "leave name and password out" in (said := capsys.readouterr().err)
    assert "S3CRET" not in said
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    assert main([str(finished), "--images", str(scenes / "images")]) == 2
    assert "pip install 'advcam[label-studio]'" in capsys.readouterr().err
