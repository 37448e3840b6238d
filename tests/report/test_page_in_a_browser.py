"""The page of a run in headless Chromium: every control by mouse and by keyboard, as a person would use it."""

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advcam.cli import main
from advcam.report import gallery
from advcam.store import save_mask
from advcam.store.masks import voc_palette

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = [
    *([] if BROWSER else ["chromium"]),
    *(name for name in ("playwright", "axe_playwright_python") if not importlib.util.find_spec(name)),
]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"needs {', '.join(MISSING)}; `pip install playwright axe-playwright-python`"
)

HOSTILE_IMAGE = 'a"><img src=x onerror=alert(1)>'
HOSTILE_CLASS = "</script><script>alert(2)</script>"
COLOURS = np.array(voc_palette(), np.uint8).reshape(256, 3)


def replaced(path, *pairs):
    text = path.read_text()
    for old, new in pairs:
        text = text.replace(old, new)
    path.write_text(text)


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    """A finished run with a hostile image and a hostile class, and two images whose climb is kept step by step."""
    run = Path(shutil.copytree(finished, tmp_path_factory.mktemp("browser") / "run"))
    for path in [*run.rglob("scene-00017.*")]:
        path.rename(path.with_name(HOSTILE_IMAGE + path.suffix))
    image, name = (json.dumps(text)[1:-1] for text in (HOSTILE_IMAGE, HOSTILE_CLASS))
    for file in ("data.json", "metrics.json", "1-classify/metrics.json"):
        replaced(run / file, ('"id": "scene-00017"', f'"id": "{image}"'), ('"ring"', f'"{name}"'))
    csv_image = '"' + HOSTILE_IMAGE.replace('"', '""') + '"'
    for file in ("per-image.csv", "3-refine/scores.csv", "3-refine/lacking.csv"):
        if (run / file).is_file():
            replaced(run / file, ("scene-00017", csv_image), (",ring,", f",{HOSTILE_CLASS},"))
    assert main(["report", "--run", str(run), "--grow", "2", "--quiet"]) == 0
    return run


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, run):
    """Opens the page; afterwards nothing may stand on the console, and only files of the page may have been asked for."""
    said, asked, contexts = [], [], []

    def visit(path=run / "report.html", address="", **settings):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | settings))
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri() + address)
        page.locator("#images").evaluate("heading => heading.scrollIntoView()")
        page.wait_for_selector("#rows canvas[data-drawn]")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert said == []
    beside = (f"{run.parent.as_uri()}/", "data:", "blob:")
    assert [url for url in asked if not url.startswith(beside)] == []


def address(page):
    return page.evaluate("location.hash")  # `page.url` follows it only later


def names(page):
    return page.locator("#rows h3").all_text_contents()


def figure(page, name, layer):
    item = page.locator("#rows > li").filter(has=page.get_by_role("link", name=name, exact=True))
    item.scroll_into_view_if_needed()
    item.locator("canvas[data-drawn]").first.wait_for()
    return item.locator(f"figure[data-layer={layer}]")


def pixels(shown):
    """The pixels of a canvas, RGBA [H, W, 4]."""
    flat = shown.locator("canvas").evaluate("""canvas => {
        const { width, height } = canvas;
        const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        return [height, width, ...copy.getImageData(0, 0, width, height).data];
    }""")
    return np.array(flat[2:], np.uint8).reshape(flat[0], flat[1], 4)


def scores(run):
    with (run / "per-image.csv").open(newline="") as file:
        return {row["image"]: float(row["masks"]) for row in csv.DictReader(file) if row["masks"]}


def test_a_mask_is_drawn_exactly_and_a_click_on_it_chooses_its_class(visit, run):
    page = visit()
    name = "scene-00020"
    ids = np.asarray(Image.open(run / "3-refine" / "masks" / f"{name}.png"))
    shown = figure(page, name, "mask")
    assert (pixels(shown)[..., :3][ids > 0] == COLOURS[ids[ids > 0]]).all()
    assert ((pixels(shown)[..., 3] == 255) == (ids > 0)).all()
    y, x = (int(at[0]) for at in np.nonzero((ids > 0) & (ids < 255)))
    box = shown.locator("canvas").bounding_box()
    shown.locator("canvas").click(position={"x": (x + 0.5) * box["width"] / 64, "y": (y + 0.5) * box["height"] / 64})
    page.wait_for_function("location.hash.includes('show=')")
    assert f"show={ids[y, x]}" in address(page)
    pressed = page.locator("#legend button[aria-pressed=true]")
    assert pressed.get_attribute("data-class") == str(ids[y, x])


def test_the_class_shown_is_chosen_by_keyboard_and_leaves_its_own_map(visit, run):
    page = visit()
    item = json.loads((run / "data.json").read_text())
    two = next(one["id"] for one in item["eval"] if len(one["labels"]) > 1 and one["id"] != HOSTILE_IMAGE)
    with np.load(run / "2-climb" / "maps" / f"{two}.npz") as file:
        classes, maps = file["classes"], np.rint(file["maps"].astype(np.float32) * 255).astype(int)
    shown = figure(page, two, "advcam")
    shown.locator("canvas[data-drawn]").wait_for()
    strongest = 90 + 0.65 * maps.max(0)
    assert np.abs(pixels(shown)[..., 3] - strongest).max() <= 1
    page.locator(f"#legend button[data-class='{classes[0]}']").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"location.hash.includes('show={classes[0]}')")
    assert np.abs(pixels(shown)[..., 3] - (90 + 0.65 * maps[0])).max() <= 1
    page.keyboard.press("Space")
    page.wait_for_function("!location.hash.includes('show=')")


def test_opacity_by_mouse_and_by_keyboard(visit):
    page = visit()
    canvas = page.locator("#rows canvas").first
    slider = page.get_by_label("opacity")
    assert canvas.evaluate("c => c.style.opacity") == "0.65"
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert canvas.evaluate("c => c.style.opacity") == "0.6"
    box = slider.bounding_box()
    slider.click(position={"x": box["width"] - 2, "y": box["height"] / 2})
    assert canvas.evaluate("c => c.style.opacity") == "1"
    assert page.locator("#look .value").inner_text() == "100 %"


def test_the_worst_come_first_and_the_order_can_be_turned(visit, run):
    page, found = visit(), scores(run)
    worst = sorted(found, key=lambda name: (found[name], name))
    assert names(page)[: len(worst)] == worst
    page.get_by_label("other way round").check()
    assert [found[name] for name in names(page)[: len(worst)]] == sorted(found.values(), reverse=True)
    page.get_by_label("order by").select_option("name")
    page.get_by_label("other way round").uncheck()
    assert names(page) == sorted(names(page))
    page.get_by_label("order by").select_option("disagreement")
    shown = [float(text.split()[-2]) for text in page.locator(".facts span:has-text('disagreement')").all_text_contents()]
    assert shown == sorted(shown, reverse=True)
    assert 1 < len(shown) <= 8


def test_find_by_name_class_and_state_by_keyboard(visit, run):
    page = visit()
    data = json.loads((run / "data.json").read_text())
    everything = {one["id"]: one["labels"] for one in data["train"] + data["eval"]}
    page.get_by_role("searchbox").focus()
    page.keyboard.type("0002")
    assert sorted(names(page)) == sorted(name for name in everything if "0002" in name)
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.locator("select[name=class]").focus()
    page.keyboard.press("ArrowDown")
    position = 0
    assert sorted(names(page)) == sorted(name for name, labels in everything.items() if position in labels)
    page.locator("select[name=class]").select_option("")
    page.locator("select[name=state]").select_option("grown")
    assert len(names(page)) == 2
    page.locator("select[name=state]").select_option("truth")
    assert sorted(names(page)) == sorted(everything.keys() - {HOSTILE_IMAGE})  # its mask has another name
    assert page.get_by_role("status").inner_text().startswith("23 of 24 images")


def test_a_link_opens_exactly_this_view(visit):
    page = visit()
    page.get_by_label("laid over").check()
    page.get_by_role("radio", name="ground truth").check()
    page.get_by_label("order by").select_option("confidence")
    page.get_by_label("images a page").select_option("12")
    page.get_by_role("button", name="next").click()
    page.locator("select[name=size]").select_option("s")
    page.locator("#legend button").nth(2).click()
    again = visit(address=address(page))
    assert names(again) == names(page)
    assert len(names(again)) == 12
    for name in ("view", "layer"):
        chosen = f"input[name={name}]:checked"
        assert again.locator(chosen).get_attribute("value") == page.locator(chosen).get_attribute("value")
    assert again.get_by_label("order by").input_value() == "confidence"
    assert again.locator("input[name=page]").input_value() == "2"
    assert again.locator("#legend button[aria-pressed=true]").inner_text() == page.locator("#legend button").nth(2).inner_text()
    assert address(again) == address(page)
    assert {*again.locator("#rows figure").evaluate_all("all => all.map(one => one.dataset.layer)")} == {"truth"}


def test_an_address_of_nonsense_is_the_plain_view(visit):
    page = visit(address="#page=-3&per=7&sort=x&show=999&class=x&state=%3Cb%3E&image=gone&opacity=many&step=0&view=1&size=%22")
    assert len(names(page)) == 24
    assert page.get_by_label("order by").input_value() == "masks"


def test_the_map_grows_with_the_steps(visit, run):
    page = visit(address="#state=grown")
    item = page.locator("#rows > li").first
    slider, canvas = item.get_by_label("AdvCAM after climbing step"), item.locator("figure[data-layer=advcam]")
    canvas.locator("canvas[data-drawn]").wait_for()
    assert slider.input_value() == "3"
    last = pixels(canvas)[..., 3].astype(int)
    slider.focus()
    page.keyboard.press("Home")
    page.wait_for_function("location.hash.includes('step=1')")
    assert item.locator(".value").inner_text() == "1 of 3"
    assert page.locator("#rows > li").nth(1).locator(".value").inner_text() == "1 of 3"
    first = pixels(canvas)[..., 3].astype(int)
    assert (first <= last + 2).all()
    assert first.sum() < last.sum()
    page.keyboard.press("End")
    page.wait_for_function("location.hash.includes('step=3')")
    assert np.abs(pixels(canvas)[..., 3].astype(int) - last).max() <= 1


def test_names_are_shown_as_text(visit):
    page = visit()
    assert HOSTILE_IMAGE in names(page)
    assert HOSTILE_CLASS in page.locator("#legend button").all_inner_texts()
    assert HOSTILE_CLASS in page.locator("select[name=class] option").all_inner_texts()
    assert page.locator("img[src=x]").count() == 0
    page.get_by_role("link", name=HOSTILE_IMAGE, exact=True).last.click()
    page.wait_for_function("document.querySelectorAll('#rows > li').length === 1")
    assert names(page) == [HOSTILE_IMAGE]
    again = visit(address=address(page))
    assert names(again) == [HOSTILE_IMAGE]
    again.get_by_role("link", name="Show all").click()
    again.wait_for_function("document.querySelectorAll('#rows > li').length === 24")


def test_curves_of_the_other_classes_step_back_by_mouse_and_by_keyboard(visit):
    page = visit()
    chart = page.locator("figure").filter(has=page.get_by_role("heading", name="Precision and recall of the classifier"))
    ids = chart.locator("[data-of]").evaluate_all("all => all.map(one => one.dataset.of)")
    assert len(ids) > 2
    assert HOSTILE_CLASS in chart.locator("button").all_inner_texts()
    chart.locator(f"button[data-class='{ids[1]}']").click()
    page.wait_for_function(f"location.hash.includes('show={ids[1]}')")
    assert chart.locator("[data-of]:not(.faint)").evaluate_all("all => all.map(one => one.dataset.of)") == [ids[1]]
    assert chart.locator("button[aria-pressed=true]").get_attribute("data-class") == ids[1]
    assert page.locator("#legend button[aria-pressed=true]").get_attribute("data-class") == ids[1]
    page.keyboard.press("Enter")
    assert chart.locator(".faint").count() == 0
    chart.get_by_text("The numbers").focus()
    page.keyboard.press("Enter")
    assert chart.locator("table tbody tr").count() == 11


def test_corrected_masks_are_a_layer_and_what_was_decided_is_found(visit, run):
    corrected = Path(shutil.copytree(run, run.parent / "corrected"))
    ids = np.zeros((64, 64), np.uint8)
    ids[10:30, 5:40], ids[40:] = 2, 255
    save_mask(corrected / "corrected" / "masks" / "scene-00003.png", ids)
    save_mask(corrected / "corrected" / "masks" / "scene-00004.png", np.full((64, 64), 255, np.uint8))
    save_mask(corrected / "corrected" / "masks" / "scene-00005.png", ids)  # of another tool
    log = "time,who,image,action\n,a,scene-00003,accept\n,a,scene-00003,fix\n,a,scene-00004,reject\n,a,scene-00006,accept\n"
    (corrected / "corrected" / "log.csv").write_text(log)
    assert main(["report", "--run", str(corrected), "--quiet"]) == 0
    page = visit(corrected / "report.html", "#sort=name&state=corrected")
    assert names(page) == ["scene-00003", "scene-00004", "scene-00005"]
    shown = figure(page, "scene-00003", "corrected")
    assert shown.locator("figcaption").inner_text() == "corrected mask"
    assert (pixels(shown)[..., :3][ids > 0] == COLOURS[ids[ids > 0]]).all()
    assert ((pixels(shown)[..., 3] == 255) == (ids > 0)).all()
    assert "mended" in page.locator(".facts").first.inner_text()
    for state, found in (("fix", ["scene-00003"]), ("reject", ["scene-00004"])):
        page.locator("select[name=state]").select_option(state)
        assert names(page) == found
    assert page.locator("select[name=state] option[value=accept]").count() == 0  # its mask is gone
    page.locator("select[name=state]").select_option("corrected")
    page.get_by_label("laid over").check()
    page.get_by_role("radio", name="corrected mask").check()
    page.wait_for_function("document.querySelectorAll('figure[data-layer=corrected] canvas[data-drawn]').length === 3")


@pytest.mark.parametrize("width", [390, 320])
def test_it_fits_a_phone(visit, width):
    for address in ("#per=24", "#view=over&size=l"):
        page = visit(address=address, viewport={"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, scheme):
    import axe_playwright_python

    page = visit(address="#per=12", color_scheme=scheme)
    page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    only = {"resultTypes": ["violations"]} | ({"runOnly": ["color-contrast"]} if scheme == "dark" else {})
    found = page.evaluate("only => axe.run(document, only)", only)["violations"]
    assert [(one["id"], one["impact"], one["nodes"][0]["html"][:200]) for one in found] == []


def test_many_images_lie_beside_the_page_and_come_as_they_are_needed(visit, run, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "INSIDE", 10)
    monkeypatch.setattr(gallery, "TOGETHER", 4)
    many = Path(shutil.copytree(run, run.parent / "many", dirs_exist_ok=True))
    assert main(["report", "--run", str(many), "--quiet"]) == 0
    (folder,) = many.glob("report/images-*")
    assert len([*folder.iterdir()]) == 6
    page = visit(many / "report.html", "#per=12")
    assert len(names(page)) == 12
    page.locator("#rows > li").last.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelectorAll('#rows .panels').length === 12")
    ids = np.asarray(Image.open(run / "3-refine" / "masks" / "scene-00020.png"))
    shown = figure(visit(many / "report.html", "#find=scene-00020"), "scene-00020", "mask")
    assert (pixels(shown)[..., :3][ids > 0] == COLOURS[ids[ids > 0]]).all()


def test_without_the_folder_beside_it_the_page_says_so(browser, run, monkeypatch):
    monkeypatch.setattr(gallery, "INSIDE", 10)
    lost = Path(shutil.copytree(run, run.parent / "lost"))
    assert main(["report", "--run", str(lost), "--quiet"]) == 0
    shutil.rmtree(lost / "report")
    page = browser.new_page()
    page.goto((lost / "report.html").as_uri() + "#per=12")
    page.locator(".note.gone").first.wait_for()
    assert "copy the folder report/images-" in page.locator(".note.gone").first.inner_text()
    assert len(names(page)) == 12
    page.close()
