"""Masks of large images in the explorer: exact up to the size of images that advcam reads, or refused by the browser itself."""

import json
import shutil
import threading

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("starlette", reason="the extra `explore` is not installed: pip install 'advcam[explore]'")
from explore_helpers import TOKEN, explorer, served
from starlette.testclient import TestClient

from advcam.store import load_mask

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def resized(run, name, size):
    """Records another size of an image."""
    data = json.loads((run / "data.json").read_text())
    for item in data["train"] + data["eval"]:
        if item["id"] == name:
            item["size"] = size
    (run / "data.json").write_text(json.dumps(data))


def client_of(run, tmp_path):
    return TestClient(served(explorer(tmp_path / "scratch", run=run)), base_url="http://127.0.0.1:8765")


def test_a_mask_of_more_than_50_megapixels_is_saved_exactly(run, tmp_path):
    height, width = 7000, 7200
    resized(run, "scene-00001", [height, width])
    (run / "3-refine" / "masks" / "scene-00001.png").unlink()
    client = client_of(run, tmp_path)
    head, _, held = client.get(f"/{TOKEN}/api/item", params={"id": "scene-00001"}).content.partition(b"\n")
    assert len(held) == height * width
    mask = np.full((height, width), 255, np.uint8)
    mask[6999, 7100:], mask[:3, 5], mask[3000:3500] = 2, 1, 0
    given = {"id": "scene-00001", "action": "save", "version": json.loads(head)["version"]}
    assert client.post(f"/{TOKEN}/api/decide", params=given, content=mask.tobytes()).status_code == 200
    np.testing.assert_array_equal(load_mask(run / "corrected" / "masks" / "scene-00001.png"), mask)


def test_more_bytes_than_an_image_can_have_are_not_taken(run, tmp_path, monkeypatch):
    monkeypatch.setattr("advcam.explore.server.MAX_PIXELS", 5000)
    client = client_of(run, tmp_path)
    answer = client.put(f"/{TOKEN}/api/draft", params={"id": "scene-00001", "version": ""}, content=bytes(5001))
    assert answer.status_code == 400
    assert answer.json()["error"] == "more than 5000 bytes were sent"


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(chromium, run, tmp_path):
    """The explorer of a run, one of whose images has a longer side than a canvas of Chromium."""
    uvicorn = pytest.importorskip("uvicorn", reason="the extra `explore` is not installed: pip install 'advcam[explore]'")
    from advcam.explore import serving

    resized(run, "scene-00001", [16, 70_000])
    (run / "3-refine" / "masks" / "scene-00001.png").unlink()
    bound = serving.listen("127.0.0.1", 0)
    app = served(explorer(tmp_path / "scratch", run=run))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    context = chromium.new_context(viewport={"width": 1280, "height": 860}, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"http://127.0.0.1:{bound.getsockname()[1]}/{TOKEN}/#correct")
    yield page
    context.close()
    server.should_exit = True
    thread.join(10)


def test_what_the_browser_cannot_hold_is_said_and_nothing_is_changed(page, run):
    page.locator("#images button", has_text="scene-00002").click()
    page.locator("#canvas[data-shown='scene-00002']").wait_for()
    page.locator("#images button", has_text="scene-00001").click()
    said = page.locator("#alert p")
    said.wait_for()
    assert said.inner_text().startswith("scene-00001: this browser cannot hold 70000 \N{MULTIPLICATION SIGN} 16 pixels")
    assert "at another size a mask would not be exact" in said.inner_text()
    assert page.locator("#what b").inner_text() == "scene-00002"  # which can still be mended
    assert not (run / "corrected").exists()
    page.locator("#images button", has_text="scene-00003").click()
    page.locator("#canvas[data-shown='scene-00003']").wait_for()
    assert page.locator("#alert").is_hidden()


FILL = """async ([width, height, cells, x, y]) => {
    const { Mask } = await import("./paint.js");
    const mask = new Mask(Uint8Array.from(cells), width, height), own = cells[y * width + x];
    mask.begin();
    mask.flood(x, y, (at) => mask.data[at] === own, 9);
    const box = mask.box;
    mask.end();
    return [[...mask.data], box];
}"""


def test_a_fill_takes_exactly_what_is_connected(page):
    draw = np.random.default_rng(0)
    for width, height, share in (
        (1, 1, 1),
        (7, 1, 0.5),
        (1, 9, 0.5),
        (31, 17, 0.6),
        (40, 40, 0.55),
        (60, 50, 0.9),
        (64, 64, 1),
    ):
        cells = (draw.random((height, width)) < share).astype(np.uint8)
        y, x = (int(at[len(at) // 2]) for at in np.nonzero(cells)) if cells.any() else (0, 0)
        areas, _ = ndimage.label(cells == cells[y, x])
        expected = np.where(areas == areas[y, x], 9, cells)
        found, box = page.evaluate(FILL, [width, height, cells.ravel().tolist(), x, y])
        np.testing.assert_array_equal(np.reshape(found, (height, width)), expected)
        rows, columns = np.nonzero(areas == areas[y, x])
        assert box == [columns.min(), rows.min(), columns.max(), rows.max()]


def test_a_fill_of_a_very_large_area_takes_all_of_it(page):
    filled = page.evaluate("""async () => {
        const { Mask } = await import("./paint.js");
        const mask = new Mask(new Uint8Array(12200 * 12200), 12200, 12200);
        mask.flood(6000, 7000, (at) => mask.data[at] === 0, 3);
        return [mask.box, mask.data.indexOf(0) === -1];
    }""")
    assert filled == [[0, 0, 12199, 12199], True]
