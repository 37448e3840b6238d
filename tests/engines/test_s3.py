"""Images in a bucket of a real S3 server (moto's), behind a proxy that refuses an image; read here and by Ray's actors."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch

import s3_server
from advcam.cli import main
from conftest import NETWORK

pytestmark = [
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("moto", "s3fs", "flask")),
        reason="no S3 server: pip install s3fs 'moto[server]'",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.slow,
]
ENGINES = {
    "local": [],
    "ray": ["--engine", "ray", "--actors", "1"],
}


@pytest.fixture(scope="module")
def bucket(scenes):
    """The scenes in a bucket; every process of the tests asks the proxy, and waits two seconds for its answers."""
    waits = {"read_timeout": 2, "connect_timeout": 2, "retries": {"max_attempts": 1}}
    with s3_server.bucket("photos", use_listings_cache=False, config_kwargs=waits) as proxy:
        for path in sorted((scenes / "images").iterdir()):
            proxy.store.pipe(f"photos/{path.name}", path.read_bytes())
        yield proxy


@pytest.fixture(scope="module")
def climbed(bucket, scenes, tmp_path_factory):
    """A run on the bucket, climbed by this process; and the bytes of its maps."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("s3") / "run"
    data = ["--images", "s3://photos", "--labels", str(scenes / "labels.csv"), "--classes", str(scenes / "classes.csv")]
    assert main(["classify", "--run", str(run), *data, *NETWORK]) == 0
    assert main(["climb", "--run", str(run), "--quiet", "--preset", "default", "--steps", "2", "--max-pixels", "16384"]) == 0
    yield run, maps(run)
    torch.set_num_threads(before)


def maps(run):
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in sorted((run / "2-climb").rglob("*.npz"))}


@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_store_refuses_is_listed_and_made_later(bucket, climbed, tmp_path, capsys, engine):
    source, whole = climbed
    run = Path(shutil.copytree(source, tmp_path / "run"))
    for name in ("maps", "cam"):
        shutil.rmtree(run / "2-climb" / name)
    words = ["climb", "--run", str(run), "--quiet", "--max-pixels", "16384", *ENGINES[engine]]
    bucket.treat("scene-00005.png", "refuses", verb="GET")
    assert main(words) == 2
    bucket.calm()
    said = capsys.readouterr().err
    assert "climb: 1 images could not be made, the first because s3://photos/scene-00005.png: cannot be read" in said
    assert len(said.strip().splitlines()) == 1
    gone = {f"2-climb/{name}/scene-00005.npz" for name in ("maps", "cam")}
    assert maps(run) == {name: data for name, data in whole.items() if name not in gone}
    assert main(words) == 0
    assert maps(run) == whole
