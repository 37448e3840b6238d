"""The explorer as a person uses it: a real browser, by mouse, by keyboard and by touch."""

import errno
import json
import os
import re
import shutil
import threading
import time
from math import ceil, hypot

import numpy as np
import pytest

from advcam.cli import main
from advcam.store import load_maps, load_mask
from conftest import arguments

pytest.importorskip("starlette", reason="the extra `explore` is not installed: pip install 'advcam[explore]'")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `explore` is not installed: pip install 'advcam[explore]'")
helpers = pytest.importorskip("explore_helpers")
serving = pytest.importorskip("advcam.explore.serving")
TOKEN = helpers.TOKEN

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<img src=x onerror=alert(1)>"
CLASS = "<b>'cross'\" & co</b>"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium")
expect = sync_api.expect
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def made(scenes, tmp_path_factory):
    """A finished run, one of whose images and one of whose classes have names that are HTML."""
    folder = tmp_path_factory.mktemp("browser")
    data = shutil.copytree(scenes, folder / "data")
    first = (data / "train.txt").read_text().split()[0]
    (data / "images" / f"{first}.png").rename(data / "images" / f"{HOSTILE}.png")
    for name in ("labels.csv", "train.txt"):
        (data / name).write_text((data / name).read_text().replace(first, HOSTILE))
    quoted = CLASS.replace('"', '""')
    for name in ("labels.csv", "classes.csv"):
        lines = (data / name).read_text().splitlines()
        cells = [line.split(",", 1) for line in lines]
        (data / name).write_text("".join(f'{a},"{b.replace("cross", quoted)}"\n' for a, b in cells))
    assert main(arguments(data, folder / "run")) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def address(made, tmp_path_factory):
    """The page, served from this process until the last test has ended."""
    bound = serving.listen("127.0.0.1", 0)
    shown = helpers.explorer(tmp_path_factory.mktemp("scratch"), run=made)
    shown.correcting.compare()
    server = uvicorn.Server(
        uvicorn.Config(helpers.served(shown), log_config=None, access_log=False, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}/{TOKEN}/"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def window(browser, address):
    """Opens pages; at the end of the test none may have said an error, or asked another machine for anything."""
    wrong, asked, contexts, expected = list[str](), list[str](), [], list[str]()

    def opened(part="correct", **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}#{part}")
        if part == "correct":
            expect(page.locator("#what b")).not_to_be_empty()
        return page

    opened.expects = expected.append
    yield opened
    for context in contexts:
        context.close()
    assert [said for said in wrong if not any(part in said for part in expected)] == []
    assert {url.split("/")[2] for url in asked if not url.startswith("blob:")} == {address.split("/")[2]}


@pytest.fixture
def run(made):
    """The run, without what earlier tests have corrected."""
    shutil.rmtree(made / "corrected", ignore_errors=True)
    return made


class Sheet:
    """The canvas, in pixels of the image."""

    def __init__(self, page):
        self.page, self.canvas = page, page.locator("#canvas")
        expect(self.canvas).to_have_attribute("data-shown", current(page))
        drawn(page)

    def place(self, x, y):
        """Where on the screen the middle of a pixel is, in whole pixels."""
        box, data = self.canvas.bounding_box(), self.canvas.evaluate("canvas => ({...canvas.dataset})")
        return tuple(
            round(box[side] + float(data[edge]) + (value + 0.5) * float(data["scale"]))
            for side, edge, value in (("x", "left", x), ("y", "top", y))
        )

    def pixel(self, place):
        """What the page makes of a place on the screen."""
        box, data = self.canvas.bounding_box(), self.canvas.evaluate("canvas => ({...canvas.dataset})")
        return tuple(
            (at - box[side] - float(data[edge])) / float(data["scale"]) - 0.5
            for at, side, edge in zip(place, ("x", "y"), ("left", "top"), strict=True)
        )

    def stroke(self, *pixels):
        """Draws along pixels; returns what the page makes of the mouse's way."""
        places = [self.place(*pixel) for pixel in pixels]
        way = [self.pixel(place) for place in places]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place)
        self.page.mouse.up()
        return way


def drawn(page):
    """Waits until the page has drawn what it was asked to, also where it draws again because the canvas changed its size."""
    page.evaluate("async () => { for (let n = 0; n < 3; n++) await new Promise(requestAnimationFrame); }")


def current(page):
    return page.locator("#what b").inner_text()


def show(page, name):
    page.locator("#filter").select_option("all")
    page.locator("#search").fill(name)
    page.locator("#images button").first.click()
    expect(page.locator("#what b")).to_have_text(name)
    expect(page.locator("#canvas")).to_have_attribute("data-shown", name)  # the image is there, too
    page.locator("#search").fill("")
    page.locator("#search").blur()


def paint_with(page, run, name):
    """Chooses a class that the run's mask does not hold, and returns it."""
    number = next(one for one in range(1, 6) if one not in of_run(run, name))
    page.locator(f"#classes input[value='{number}']").check()
    return number


def until(holds):
    """Waits for what the server writes."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def saved(page):
    expect(page.locator("#status")).to_contain_text("draft saved")


def draft(run, name):
    path = run / "corrected" / "drafts" / f"{name}.png"
    return load_mask(path) if path.is_file() else np.full((64, 64), 254)


def corrected(run, name):
    return load_mask(run / "corrected" / "masks" / f"{name}.png")


def of_run(run, name):
    return load_mask(run / "3-refine" / "masks" / f"{name}.png")


def brushed(mask, way, radius, value):
    """The mask after a brush has gone that way, as paint.js says."""
    made, (height, width) = mask.copy(), mask.shape
    y, x = np.mgrid[0:height, 0:width]
    for start, end in zip([way[0], *way], way, strict=False):
        steps = max(1, ceil(hypot(end[0] - start[0], end[1] - start[1]) / max(0.5, radius / 3)))
        for at in range(steps + 1):
            centre = [a + (b - a) * at / steps for a, b in zip(start, end, strict=True)]
            made[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius * radius] = value
    return made


def by_class(file):
    stored = load_maps(file)
    return zip(stored.classes, stored.maps, strict=True)


def training(run):
    return [item["id"] for item in json.loads((run / "data.json").read_text())["train"]]


def test_a_stroke_is_the_exact_png(window, run):
    page = window()
    name = training(run)[3]
    show(page, name)
    number = paint_with(page, run, name)
    page.locator("#size").fill("7")
    way = Sheet(page).stroke((10, 12), (30, 15), (41, 50))
    saved(page)
    wanted = brushed(of_run(run, name), way, 3.5, number)
    assert (draft(run, name) == wanted).all()
    page.locator("#save").click()
    expect(page.locator("#what b")).not_to_have_text(name)
    assert (corrected(run, name) == wanted).all()
    assert not (run / "corrected" / "drafts" / f"{name}.png").exists()
    assert f"{name},fix,chosen," in (run / "corrected" / "log.csv").read_text()
    page.locator("#filter").select_option("open")
    page.locator("#order").select_option("random")
    page.locator("#images button").first.click()
    drawn = page.locator("#images b").first.inner_text()
    expect(page.locator("#what b")).to_have_text(drawn)
    page.locator("#reject").click()
    expect(page.locator("#what b")).not_to_have_text(drawn)
    assert f"{drawn},reject,random," in (run / "corrected" / "log.csv").read_text()


def test_every_tool_by_mouse(window, run):
    page = window()
    name = training(run)[4]
    show(page, name)
    sheet = Sheet(page)
    page.get_by_role("button", name="from nothing").click()
    saved(page)
    assert (draft(run, name) == 0).all()
    page.locator("#classes input[value='2']").check()
    page.get_by_role("button", name="Fill").click()
    sheet.stroke((5, 5))
    expect(page.locator("#undo")).to_be_enabled()
    until(lambda: (draft(run, name) == 2).all())
    page.get_by_role("button", name="Eraser").click()
    way = sheet.stroke((20, 20), (24, 30))
    erased = brushed(np.full((64, 64), 2, np.uint8), way, 6, 0)
    until(lambda: (draft(run, name) == erased).all())
    page.get_by_role("button", name="Undo").click()
    until(lambda: (draft(run, name) == 2).all())
    page.get_by_role("button", name="Redo").click()
    until(lambda: (draft(run, name) == erased).all())
    page.locator("#classes input[value='255']").check()
    page.locator("#regions").select_option("120")
    page.get_by_role("button", name="Region", exact=True).click()
    expect(page.locator("#status")).to_contain_text("click a region")
    sheet.stroke((50, 50))
    until(lambda: draft(run, name)[50, 50] == 255)
    assert 10 < (draft(run, name) == 255).sum() < 400
    before = page.locator("#canvas").evaluate("canvas => canvas.dataset.scale")
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Move").click()
    drawn(page)
    page.mouse.move(*sheet.place(30, 30))
    page.mouse.wheel(0, -300)  # which it does not wait for
    page.wait_for_function(f"document.getElementById('canvas').dataset.scale > {2 * float(before)}")
    held = sheet.place(30, 30)
    sheet.stroke((30, 30), (34, 33))
    drawn(page)
    assert max(abs(a - b) for a, b in zip(sheet.place(26, 27), held, strict=True)) <= 2
    page.get_by_role("button", name="Fit").click()
    drawn(page)
    assert page.locator("#canvas").evaluate("canvas => canvas.dataset.scale") == before
    page.get_by_role("button", name="from the run's mask").click()
    until(lambda: (draft(run, name) == of_run(run, name)).all())
    page.get_by_role("button", name="Reject").click()
    expect(page.locator("#what b")).not_to_have_text(name)
    assert (corrected(run, name) == 255).all()
    show(page, name)
    page.get_by_role("button", name="Undecide").click()
    expect(page.locator("#withdraw")).to_be_disabled()
    assert not (run / "corrected" / "masks" / f"{name}.png").exists()
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#what b")).not_to_have_text(name)
    page.get_by_role("button", name="Previous").click()
    expect(page.locator("#what b")).to_have_text(name)


def test_the_threshold_of_a_map(window, run):
    page = window()
    files = [run / "2-climb" / "maps" / f"{name}.npz" for name in training(run)]
    number, name = next((c, file.stem) for file in files for c, one in by_class(file) if one.max() > 0)
    show(page, name)
    page.locator(f"#classes input[value='{number}']").check()
    page.locator("#kind").select_option("advcam")
    page.locator("#heat").check()
    page.locator("#heat").uncheck()
    page.get_by_role("button", name="from nothing").click()
    page.locator("#threshold").fill("40")
    expect(page.locator("output[for=threshold]")).to_have_text("40 %")
    page.get_by_role("button", name="Apply to the class").click()
    until(lambda: (draft(run, name) == number).any())
    some = (draft(run, name) == number).sum()
    page.locator("#threshold").fill("10")
    page.locator("#threshold").press("t")
    until(lambda: (draft(run, name) == number).sum() > some)
    page.locator("#regions").select_option("map")
    page.get_by_role("button", name="Region", exact=True).click()
    ys, xs = np.nonzero(draft(run, name) == number)
    page.get_by_role("button", name="from nothing").click()
    until(lambda: (draft(run, name) == 0).all())
    Sheet(page).stroke((int(xs[0]), int(ys[0])))
    until(lambda: draft(run, name)[ys[0], xs[0]] == number)


def test_everything_by_keyboard(window, run):
    page = window()
    name = training(run)[5]
    show(page, name)
    page.locator("#canvas").focus()
    for key in ("0", "f", "2", "b", "Shift+ArrowLeft", "ArrowUp", "[", "[", " ", "Shift+ArrowDown", "ArrowRight", " "):
        page.keyboard.press(key)
    saved(page)
    start = (22, 31)
    wanted = brushed(of_run(run, name), [start, (22, 41), (23, 41)], 4, 2)
    assert (draft(run, name) == wanted).all()
    page.keyboard.press("Control+z")
    until(lambda: (draft(run, name) == of_run(run, name)).all())
    page.keyboard.press("y")
    page.keyboard.press("e")
    page.keyboard.press(" ")
    page.keyboard.press(" ")
    until(lambda: (draft(run, name) == brushed(wanted, [(23, 41)], 4, 0)).all())
    for key in ("+", "-", "Home", "o", "o", "h", "ArrowLeft", "r", "k"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.locator("#what b")).not_to_have_text(name)
    assert (corrected(run, name) == brushed(wanted, [(23, 41)], 4, 0)).all()
    other = current(page)
    page.keyboard.press("x")
    expect(page.locator("#what b")).not_to_have_text(other)
    assert (corrected(run, other) == 255).all()
    page.keyboard.press("n")
    page.keyboard.press("p")
    reached = set[str]()
    page.locator("#tab-correct").focus()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.dataset.tool || ''"))
    controls = (
        "order filter search canvas save reject skip back size regions opacity kind threshold apply heat from-run from-nothing"
    )
    assert {*controls.split(), "brush", "eraser", "fill", "region", "pan", "closer", "further", "whole"} <= reached


def test_a_reload_in_the_middle_loses_nothing(window, run):
    page = window()
    name = current(page)
    paint_with(page, run, name)
    way = Sheet(page).stroke((8, 8), (20, 40))
    saved(page)
    kept = draft(run, name)
    page.reload()
    expect(page.locator("#what b")).not_to_be_empty()
    show(page, name)
    expect(page.locator("#what")).to_contain_text("as you left it")
    expect(page.locator("#save")).to_have_text("Save as mended")
    page.locator("#save").click()
    expect(page.locator("#what b")).not_to_have_text(name)
    assert (corrected(run, name) == kept).all()
    assert len(way) == 2


def test_a_decision_goes_on_to_the_next_of_the_list(window, run):
    page = window()
    page.locator("#order").select_option("name")
    page.locator("#images button").first.click()
    names = page.locator("#images b").all_inner_texts()
    for at, key in enumerate(("n", "x", "x", "p", "n", "x")):
        expect(page.locator("#what b")).to_have_text(names[(0, 1, 2, 3, 0, 3)[at]])
        page.keyboard.press(key)
    expect(page.locator("#what b")).to_have_text(names[4])
    expect(page.locator("#progress")).to_contain_text("3 of 24 looked at")


def test_two_tabs_do_not_overwrite_each_other(window, run):
    window.expects("409")
    first, second = window(), window()
    name = training(run)[6]
    for page in (first, second):
        show(page, name)
        number = paint_with(page, run, name)
    Sheet(first).stroke((10, 10))
    saved(first)
    first.locator("#save").click()
    expect(first.locator("#what b")).not_to_have_text(name)
    mine = corrected(run, name)
    Sheet(second).stroke((50, 50))
    alert = second.locator("#alert")
    expect(alert).to_contain_text("nothing was overwritten")
    assert (corrected(run, name) == mine).all()
    alert.get_by_role("button", name="Keep mine").click()
    saved(second)
    assert (corrected(run, name) == mine).all()
    second.locator("#save").click()
    expect(second.locator("#what b")).not_to_have_text(name)
    assert corrected(run, name)[50, 50] == number != mine[50, 50]
    show(first, name)
    paint_with(first, run, name)
    Sheet(first).stroke((30, 30))
    saved(first)
    second.locator("#filter").select_option("all")
    show(second, name)
    expect(second.locator("#what")).to_contain_text("as you left it")


def test_names_are_text(window, run):
    page = window()
    show(page, HOSTILE)
    paint_with(page, run, HOSTILE)
    assert current(page) == HOSTILE
    assert page.locator("#classes").get_by_text(CLASS, exact=True).count() == 1
    assert page.locator("#images img").count() == page.locator("#classes b").count() == 0
    Sheet(page).stroke((12, 12))
    saved(page)
    page.locator("#save").click()
    expect(page.locator("#what b")).not_to_have_text(HOSTILE)
    assert (run / "corrected" / "masks" / f"{HOSTILE}.png").is_file()
    page = window("climb")
    page.locator("#image-list").select_option(HOSTILE)
    page.wait_for_selector(".pane[data-state=done]")
    assert page.locator(".likely").get_by_text(CLASS).count() == 1


def test_labels_by_hand(window, run):
    page = window()
    name = current(page)
    select = page.locator("#labels select").nth(1)
    select.select_option("not sure")
    expect(page.locator("#status")).to_contain_text("labels saved")
    assert any(line.startswith(name) and "?" in line for line in (run / "corrected" / "labels.csv").read_text().splitlines())
    page.reload()
    show(page, name)
    expect(page.locator("#labels select").nth(1)).to_have_value("not sure")


def test_a_full_disk_is_said_and_the_mask_stays(window, run, monkeypatch):
    window.expects("507")
    page = window()
    name = current(page)
    real = os.fsync

    def full(handle):
        if os.readlink(f"/proc/self/fd/{handle}").endswith(".png"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    number = paint_with(page, run, name)
    monkeypatch.setattr("advcam.store.atomic.os.fsync", full)
    way = Sheet(page).stroke((40, 40), (45, 45))
    alert = page.locator("#alert")
    expect(alert).to_contain_text("disk is full")
    expect(alert).to_contain_text("still on this page")
    page.locator("#skip").click()
    assert current(page) == name, "the page does not leave what is not saved"
    monkeypatch.undo()
    alert.get_by_role("button", name="Try again").click()
    saved(page)
    assert (draft(run, name) == brushed(of_run(run, name), way, 6, number)).all()


def test_an_image_deleted_meanwhile_is_said(window, run):
    window.expects("410")
    name = training(run)[7]
    record = json.loads((run / "data.json").read_text())
    path = next(item["path"] for item in record["train"] if item["id"] == name)
    page = window()
    os.rename(path, path + ".gone")
    try:
        page.locator("#filter").select_option("all")
        page.locator("#search").fill(name)
        page.locator("#images button").first.click()
        expect(page.locator("#alert")).to_contain_text("no such file")
        page.locator("#search").fill("")
        page.locator("#alert").get_by_role("button", name="Next").click()
        expect(page.locator("#what b")).not_to_have_text(name)
        expect(page.locator("#alert")).to_be_hidden()
    finally:
        os.rename(path + ".gone", path)
    mask = run / "3-refine" / "masks" / f"{name}.png"
    kept = mask.read_bytes()
    mask.write_bytes(b"no PNG")
    try:
        show(page, name)
        expect(page.locator("#status")).to_contain_text("cannot be read as a mask")
    finally:
        mask.write_bytes(kept)


def test_a_map_grows_and_a_new_setting_replaces_it(window, run, tmp_path):
    page = window("climb")
    pane = page.locator(".pane")
    page.wait_for_selector(".pane[data-state=done]")
    expect(pane.locator(".seen-step output")).to_have_text("4 of 4")
    pane.locator(".steps").fill("3")
    expect(pane.locator(".seen-step output")).to_have_text("3 of 3")
    pane.locator(".preset").select_option("multiscale")
    expect(pane.locator(".seen-step output")).to_have_text("8 of 8")
    page.wait_for_selector(".pane[data-state=done]")  # which says so where the copy will
    expect(pane.locator(".scales")).to_have_value("1, 2")
    pane.get_by_role("button", name="Copy as command").click()
    expect(pane.locator(".said")).to_contain_text("several")
    pane.locator(".scales").fill("1")
    pane.locator(".scales").press("Enter")
    pane.get_by_role("button", name="Copy as command").click()
    expect(pane.locator(".copied")).to_have_value(re.compile("advcam climb-image .* --preset multiscale .*--scales 1"))
    pane.get_by_role("button", name="Copy as Python").click()
    expect(pane.locator(".copied")).to_have_value(re.compile("AdvCAM\\(model, 'multiscale'"))
    page.locator("#compare").click()
    page.wait_for_selector(".pane[data-state=done] + .pane[data-state=done]")
    second = page.locator(".pane").nth(1)
    second.locator(".steps").fill("40")
    second.locator(".shown").focus()
    page.keyboard.press("ArrowLeft")
    second.get_by_role("button", name="Stop").click()
    second.locator(".first").check()
    second.locator(".tau").fill("0.9")
    page.wait_for_selector(".pane + .pane[data-state=done]")
    second.locator(".scales").fill("0")
    second.locator(".scales").press("Enter")
    expect(second.locator(".said.wrong")).to_contain_text("scales")
    second.get_by_role("button", name="Remove").click()
    expect(page.locator(".pane")).to_have_count(1)
    window.expects("400")
    file = next(path for path in sorted((run.parent / "data" / "images").iterdir()))
    page.locator("#file").set_input_files(str(file))
    expect(page.locator("#image-list option").last).to_contain_text("dropped")
    page.wait_for_selector(".pane[data-state=done]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("part", ["correct", "climb"])
def test_assistive_technology_finds_no_serious_fault(window, run, part, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    page = window(part, color_scheme=scheme)
    if part == "climb":
        page.wait_for_selector(".pane[data-state=done]")
    found = axe.run(page).response
    serious = [
        (one["id"], node["html"][:200])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert serious == []


def test_on_a_phone(window, run):
    options = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    for part in ("climb", "correct"):
        page = window(part, **options)
        if part == "climb":
            page.wait_for_selector(".pane[data-state=done]")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    name = current(page)
    number = paint_with(page, run, name)
    sheet = Sheet(page)
    page.locator("#canvas").scroll_into_view_if_needed()
    page.touchscreen.tap(*sheet.place(20, 20))
    saved(page)
    assert draft(run, name)[20, 20] == number
