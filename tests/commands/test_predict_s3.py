"""Masks written to a bucket of a real S3 server (moto's), behind a proxy that refuses, stalls and loses writes."""

import importlib.util

import pytest
import torch
from PIL import Image

from advcam.cli import main
from advcam.commands import Session
from advcam.commands.predict import PredictConfig, run
from advcam.data import remote, scene
from advcam.errors import StoreError
from advcam.progress import Reporter
from advcam.runtime import Runtime
from s3_server import bucket

pytestmark = [
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("moto", "s3fs", "flask")),
        reason="no S3 server: pip install s3fs 'moto[server]'",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def proxy():
    """In front of a server with a bucket; every process of the tests asks it, and tries twice by itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, bucket("bucket", config_kwargs={"retries": {"max_attempts": 1}}) as made:
        patch.setattr(remote, "WAITS", (0, 0))
        yield made
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _calm(proxy):
    yield
    proxy.calm()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(5):
        Image.fromarray(scene(seed).image).resize((90, 50)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def alone(trained, pictures, tmp_path_factory):
    """The files of a local folder."""
    out = tmp_path_factory.mktemp("alone") / "masks"
    predict(trained, pictures, out)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def predict(model, images, out, runtime=None):
    session = Session(runtime or Runtime("cpu"), Reporter(quiet=True))
    return run(PredictConfig(model=model, images=images, out=out, probabilities=True), session)


def kept(proxy, out):
    begin = out.removeprefix("s3://")
    return {name.removeprefix(f"{begin}/"): proxy.store.cat_file(name) for name in proxy.store.find(begin)}


def writes(proxy):
    return [path.removeprefix("/bucket/") for verb, path in proxy.asked if verb == "PUT"]


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_bucket_gets_the_files_of_a_local_folder_each_by_one_write(engine, proxy, trained, pictures, alone, monkeypatch):
    runtime, out = Runtime("cpu"), f"s3://bucket/{engine}"
    if engine == "ray":
        pytest.importorskip("ray", reason="pip install 'advcam[ray]'")
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        runtime = Runtime("cpu", engine="ray", actors=1)
    assert predict(trained, pictures, out, runtime).skipped == 0
    assert kept(proxy, out) == alone
    assert sorted(writes(proxy)) == sorted(f"{engine}/{name}" for name in alone)
    proxy.store.rm_file(f"bucket/{engine}/3.png")
    proxy.calm()
    assert predict(trained, pictures, out, runtime).skipped == 0
    assert kept(proxy, out) == alone
    assert sorted(writes(proxy)) == [f"{engine}/3.png", f"{engine}/probabilities/3.npz"], "nothing is made twice"


@pytest.mark.parametrize(
    ("mood", "said", "tries"),
    [
        ("refuses", "no permission: Access Denied", 1),
        ("loses", "tried three times: the store took .* bytes and has 0 of them", 3),
        ("stalls", "tried three times: no answer within 1 seconds", 3),
    ],
)
def test_a_bucket_that_takes_no_write_of_a_file(mood, said, tries, proxy, trained, pictures, alone, monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE", 1.0)
    out = f"s3://bucket/{mood}"
    proxy.treat("/2.png", mood)
    with pytest.raises(StoreError, match=rf"{out}/2\.png: cannot be written \({said}"):
        predict(trained, pictures, out)
    assert writes(proxy).count(f"{mood}/2.png") == tries
    made = kept(proxy, out)
    assert set(made) == {"predict.json", *(f"{n}.png" for n in (0, 1)), *(f"probabilities/{n}.npz" for n in (0, 1, 2))}
    assert all(alone[name] == data for name, data in made.items()), "what is there is whole"
    proxy.calm()
    assert predict(trained, pictures, out).skipped == 0
    assert kept(proxy, out) == alone
    assert "0.png" not in writes(proxy)


@pytest.mark.parametrize("mood", ["loses", "fails", "stalls"])
def test_a_write_that_fails_twice_is_made(mood, proxy, trained, pictures, alone, monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE", 1.0)
    proxy.treat("/2.png", mood, 2)
    assert predict(trained, pictures, f"s3://bucket/twice-{mood}").skipped == 0
    assert kept(proxy, f"s3://bucket/twice-{mood}") == alone


def test_what_is_wrong_is_found_before_the_first_image(proxy, trained, pictures, monkeypatch, capsys):
    words = ["predict", "--model", str(trained), "--images", str(pictures), "--quiet", "--out"]
    assert main([*words, "s3://none/masks"]) == 2
    said = capsys.readouterr().err
    assert "s3://none/masks/predict.json: cannot be written (no such place: The specified bucket does not exist)" in said
    proxy.treat("", "refuses")
    assert main([*words, "s3://bucket/denied"]) == 2
    said += capsys.readouterr().err
    assert "s3://bucket/denied/predict.json: cannot be written (no permission: Access Denied)" in said
    import fsspec.config
    import s3fs

    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": fsspec.config.conf["s3"]["endpoint_url"]})
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    assert main([*words, "s3://bucket/masks"]) == 2
    said += capsys.readouterr().err
    assert "cannot be read (tried three times: Unable to locate credentials); check the address, the account or key" in said
    assert len(said.splitlines()) == 3
