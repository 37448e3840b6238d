"""The page of a run, as a browser would read it; what its script does is in test_page_in_a_browser.py."""

import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advcam.cli import main
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.report import gallery
from advcam.runtime import Runtime
from advcam.store import save_mask


class Read(HTMLParser):
    """What a page consists of and asks for: tags, addresses, words, data, commands, and the cells of its tables."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.addresses, self.words, self.rows, self.cell = [], [], [], [], False
        self.data, self.script, self.commands = {}, None, []
        self.page = path.read_text(encoding="utf-8")
        self.feed(self.page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [(name, value) for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True
        elif tag == "script":
            self.script = dict(attributes).get("id", "")
        elif tag == "code":
            self.commands.append("")

    def handle_endtag(self, tag):
        self.cell &= tag not in ("td", "th")
        self.script = None if tag == "script" else self.script

    def handle_data(self, data):
        if self.script:
            self.data[self.script] = json.loads(data)
        if self.script is not None:
            return
        self.words.append(data)
        if self.get_starttag_text() == "<code>" and self.commands[-1] == "":
            self.commands[-1] = data
        if self.cell:
            self.rows[-1][-1] += data.strip()

    @property
    def text(self):
        """All its words, in one line."""
        return " ".join(" ".join(self.words).split())

    def row(self, head):
        """The first row that begins with these words."""
        return next(row for row in self.rows if row and row[0] == head)

    def image(self, name):
        """What the page knows of an image: its notes, states, scores, and what it is drawn from."""
        index = self.data["index"]
        at = index["name"].index(name)
        states = {state for state, bit in index["bits"].items() if index["state"][at] & bit}
        values = {key: column[at] for key, column in index["values"].items()}
        drawn = self.data["inside"][at] if at < len(self.data["inside"]) else None
        return {"notes": index["notes"].get(str(at), []), "states": states, "drawn": drawn} | values


def percent(value):
    return "\N{EN DASH}" if value is None else f"{100 * value:.1f}"


def reported(run):
    assert main(["report", "--run", str(run), "--quiet"]) == 0
    return Read(run / "report.html")


def changed(path, change):
    made = json.loads(path.read_text())
    change(made)
    path.write_text(json.dumps(made))


def test_it_is_one_page_that_asks_for_nothing_else(finished):
    read = Read(finished / "report.html")
    assert not {"link", "iframe", "object", "embed", "base"} & {*read.tags}
    assert not re.search(r"@import|url\(|https?://", read.page)
    assert {address for name, address in read.addresses if name != "href"} == set()
    assert all(address.startswith("#") for name, address in read.addresses if name == "href")
    assert not (finished / "report" / "images").exists()
    index, inside = read.data["index"], read.data["inside"]
    assert index["images"] == len(index["name"]) == len(inside) == 24
    assert index["folder"] == ""
    assert index["layers"] == ["plain", "advcam", "mask", "prediction", "truth"]
    assert [max(one["size"]) for one in inside] == [64] * 24


def test_its_numbers_are_those_that_were_measured(finished):
    read, metrics = Read(finished / "report.html"), json.loads((finished / "metrics.json").read_text())
    for name, title in (("seed_plain", "Seed, plain map"), ("masks", "Masks"), ("predictions", "Predictions")):
        found, row = metrics[name], read.row(title)
        ends = f" [{percent(found['interval'][0])}, {percent(found['interval'][1])}]" if "interval" in found else ""
        assert row[1] == percent(found["mean_iou"]) + ends
        assert row[-3] == percent(found["noise"])
        assert row[-1] == f"{found['split']}; {found['rule']}"
    for label, value in metrics["masks"]["per_class"].items():
        row = next(row for row in read.rows if row[0] == label and len(row) == 5)  # of the chart of IoU per class
        ends = metrics["masks"]["per_class_intervals"][label]
        between = f" [{percent(ends[0])}, {percent(ends[1])}]" if ends else ""
        assert row[3] == ("\N{EN DASH}" if value is None else f"{percent(value)} %{between}")
    mean = read.row("mean over classes")
    assert mean[1] == f"{percent(metrics['average_precision']['mean'])} %"


def test_it_says_in_words_what_was_made_how_good_it_is_and_what_to_type(finished):
    read, metrics = Read(finished / "report.html"), json.loads((finished / "metrics.json").read_text())
    found = metrics["masks"]
    assert "16 images to train on and 8 for scoring only, of 5 classes." in read.text
    assert "There are a classifier, maps, masks and a segmentation network and its predictions." in read.text
    assert f"The masks reach mIoU {percent(found['mean_iou'])} % (95 % interval over images:" in read.text
    assert f"with noise {percent(found['noise'])} % ({found['split']}; {found['rule'].split(': ')[0]})" in read.text
    place = str(finished.resolve())
    assert read.commands[:3] == [
        f"advcam explore --run {place}",
        f"advcam convert masks --run {place} --to coco --out masks.json",
        f"advcam predict --model {place}/4-segment --images DIR --out DIR",
    ]


def test_every_chart_has_its_place(finished):
    read = Read(finished / "report.html")
    titles = [
        "Seeds: mIoU against background threshold", "Seeds: noise against background threshold", "IoU per class",
        "Confusion of masks", "Confusion of predictions", "Size of objects against IoU of their masks",
        "Average precision of the classifier", "Precision and recall of the classifier", "Classifier: loss",
        "Segmentation network: loss",
        "Labels that occur together",
    ]  # fmt: skip
    shown = [words.strip() for words in read.words]
    assert [title for title in titles if title not in shown] == []
    assert "polyline" not in read.tags
    assert "background threshold, share of the map's maximum" in shown


def test_confusion_is_that_of_masks_and_truth(finished, scenes):
    read = Read(finished / "report.html")
    names = (scenes / "eval.txt").read_text().split()
    ours, truth = (
        np.concatenate([np.asarray(Image.open(folder / f"{name}.png")).ravel() for name in names])
        for folder in (finished / "3-refine" / "masks", scenes / "masks")
    )
    ids = {name: int(i) for i, name in (line.split(",") for line in (scenes / "classes.csv").read_text().split()[1:])}
    ours = np.where(ours == 255, 0, ours)
    table = next(at for at, row in enumerate(read.rows) if row[0] == "truth \\ found")
    for row in read.rows[table + 1 : table + 2 + len(ids)]:
        there = truth == ids.get(row[0], 0)
        expected = [100 * np.mean(ours[there] == ids.get(other, 0)) if there.any() else 0 for other in read.rows[table][1:]]
        assert [float(cell.split()[0]) for cell in row[1:]] == pytest.approx(expected, abs=0.051)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([], "default preset (ours)"),
        (["--preset", "official", "--scales", "1"], "published rules"),
        (["--preset", "paper"], "equations as printed"),
        (["--preset", "official", "--scales", "1", "--climb-option", "ceiling=0.25"], "rules of this run's own"),
    ],
)
def test_it_says_by_whose_rules_the_run_climbed(run, scenes, rules, said):
    assert main(["climb", "--run", str(run), "--redo", "--steps", "1", *rules, "--quiet"]) == 0
    assert main(["evaluate", "--run", str(run), "--masks", str(scenes / "masks"), "--quiet"]) == 0
    read = Read(run / "report.html")
    assert read.row(f"Seed, AdvCAM, {said}")
    assert read.row(f"AdvCAM, {said}")  # localisation


def test_what_comes_from_files_is_text_and_no_html(finished, tmp_path):
    run = Path(shutil.copytree(finished, tmp_path / "<i>me & 'you'"))
    hostile = "</script><iframe>"
    changed(run / "metrics.json", lambda metrics: metrics["masks"].update(rule='<script>alert("1")</script>'))
    changed(run / "data.json", lambda data: data["eval"][0].update(id=hostile.replace("/", "")))
    changed(run / "data.json", lambda data: data["classes"][0].update(name=hostile))
    changed(run / "metrics.json", lambda metrics: metrics["seed_advcam"]["per_class"].update({"<b>cat": 0.5}))
    read = reported(run)
    assert not {"i", "iframe"} & {*read.tags}
    assert read.tags.count("script") == 3
    assert read.row("<b>cat")[2] == "50.0 %"
    assert read.words.count("<i>me & 'you'") == 1  # the heading
    assert read.row("Masks")[-1].endswith('; <script>alert("1")</script>')
    assert hostile in read.words
    assert read.data["index"]["classes"][0][1] == hostile
    assert hostile.replace("/", "") in read.data["index"]["name"]


def test_without_ground_truth_it_shows_images_and_says_how_to_score(run):
    for name in ("metrics.json", "per-image.csv", "report/truth.json"):
        (run / name).unlink()
    read = reported(run)
    assert "Not scored: " in read.text
    assert f"advcam evaluate --run {run.resolve()} --masks DIR" in read.commands
    assert "mIoU of the" not in read.text
    assert read.data["index"]["layers"] == ["plain", "advcam", "mask", "prediction"]
    assert read.data["index"]["sort"] == "confidence"


def test_the_worst_come_first(run):
    read = reported(run)
    rows = [line.split(",") for line in (run / "per-image.csv").read_text().split()]
    at = rows[0].index("masks")
    ordered = sorted((float(row[at]), row[0]) for row in rows[1:] if row[at])
    index = read.data["index"]
    assert index["sort"] == "masks"
    assert index["name"][: len(ordered)] == [name for _, name in ordered]
    assert index["values"]["masks"][: len(ordered)] == [round(10_000 * score) for score, _ in ordered]
    assert index["values"]["masks"][len(ordered) :] == [None] * (24 - len(ordered))
    links = [address for name, address in read.addresses if name == "href" and "image=" in address]
    assert links == [f"#image={ordered[-1][1]}", f"#image={ordered[0][1]}"]


def test_an_image_that_is_gone_leaves_the_others(run, tmp_path):
    changed(run / "data.json", lambda data: data["eval"][0].update(path=str(tmp_path / "gone.png")))
    name = json.loads((run / "data.json").read_text())["eval"][0]["id"]
    read = reported(run)
    found = read.image(name)
    assert str(tmp_path / "gone.png") in found["notes"][0]
    assert found["drawn"]["jpeg"] == ""
    assert "mask" in found["drawn"]["planes"]
    assert "wrong" in found["states"]
    assert sum(bool(one["jpeg"]) for one in read.data["inside"]) == 23
    assert "Worth a look: " in read.text


def test_a_damaged_file_is_said_on_the_page_and_by_the_command(run, capsys):
    path = run / "3-refine" / "masks" / "scene-00003.png"
    path.write_bytes(b"no mask")
    assert main(["report", "--run", str(run), "--quiet"]) == 2
    assert f"{path}: cannot be read as a mask" in capsys.readouterr().err
    found = Read(run / "report.html").image("scene-00003")
    assert str(path) in found["notes"][0]
    assert found["states"] >= {"no-mask", "wrong"}
    assert found["drawn"]["maps"] == ["plain", "advcam"]


@pytest.mark.parametrize("step", ["classify", "climb", "refine", "segment"])
def test_a_run_that_is_half_done_has_a_page_of_what_there_is(run, step):
    folder = reopen(run, None, Runtime(), Reporter(quiet=True)).run
    folder.drop(step)
    read = reported(run)
    left = {"classify": [], "climb": [], "refine": ["plain", "advcam"], "segment": ["plain", "advcam", "mask"]}[step]
    assert read.data["index"]["layers"] == left
    assert len(read.data["inside"]) == 24
    assert f"advcam {step} --run {run.resolve()}" in read.commands
    assert f"Not begun: {step}" in read.text
    assert (run / "report.png").is_file()


def test_ground_truth_is_remembered_and_missed(run, scenes, tmp_path):
    truth = Path(shutil.copytree(scenes / "masks", tmp_path / "truth"))
    assert main(["report", "--run", str(run), "--masks", str(truth), "--quiet"]) == 0
    assert "truth" in reported(run).data["index"]["layers"]
    shutil.rmtree(truth)
    read = reported(run)
    assert "truth" not in read.data["index"]["layers"]
    assert f"{truth}: the ground truth shown before is no longer there" in read.text
    assert main(["report", "--run", str(run), "--masks", str(truth), "--quiet"]) == 2


def test_a_name_in_the_lists_of_refine_is_said_at_its_image(run):
    (run / "3-refine" / "lacking.csv").write_text("image,reason\nscene-00002,ring: its map is empty\n")
    (run / "3-refine" / "scores.csv").write_text("something else\n1\n")
    read = reported(run)
    assert read.image("scene-00002")["notes"][0] == "mask lacks ring: its map is empty"
    assert "lacking" in read.image("scene-00002")["states"]
    assert "scores.csv: is not what `advcam refine` writes" in read.text


def test_what_was_left_out_is_listed_with_its_reason(run):
    changed(run / "data.json", lambda data: data["skipped"].append({"image": "broken.png", "reason": "cannot be read"}))
    read = reported(run)
    assert read.image("broken.png") == {
        "notes": ["cannot be read"], "states": {"skipped"}, "drawn": None,
        **dict.fromkeys(read.data["index"]["values"]),
    }  # fmt: skip
    assert "1 things were left out" in read.text


def test_many_images_lie_beside_the_page_in_one_folder(run, monkeypatch):
    monkeypatch.setattr(gallery, "INSIDE", 20)
    (folder,) = _beside(reported(run), run)
    assert {path.name for path in folder.iterdir()} == {"0.js", "1.js"}
    head, _, rest = (folder / "1.js").read_text().partition("(1, ")
    entries = json.loads(rest.removesuffix(");\n"))
    assert head == "advcam.take"
    assert len(entries) == 8
    (again,) = _beside(reported(run), run)
    assert again != folder
    monkeypatch.setattr(gallery, "INSIDE", 200)
    assert _beside(reported(run), run) == []


def _beside(read, run):
    folders = [*(run / "report").glob("images-*")]
    assert [f"report/{folder.name}/" for folder in folders] == ([read.data["index"]["folder"]] if folders else [])
    assert bool(folders) == (not read.data["inside"])
    return folders


def test_where_the_page_cannot_be_written_the_old_one_stays_whole(run, monkeypatch, capsys):
    monkeypatch.setattr(gallery, "INSIDE", 20)
    reported(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    changed(run / "metrics.json", lambda metrics: metrics["masks"].update(mean_iou="much"))
    assert main(["report", "--run", str(run), "--quiet"]) == 2
    before[run / "metrics.json"] = (run / "metrics.json").read_bytes()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_masks_of_black_and_white_are_shown_as_the_only_class(run, tmp_path):
    changed(run / "data.json", lambda data: data.update(classes=data["classes"][:1]))
    for part in ("train", "eval"):
        changed(run / "data.json", lambda data, part=part: [one.update(labels=[]) for one in data[part]])
    shutil.rmtree(run / "2-climb")
    for path in (run / "3-refine" / "masks").iterdir():
        ids = np.zeros((64, 64), np.uint8)
        ids[:32] = 255
        save_mask(tmp_path / "truth" / path.name, ids)
    assert main(["report", "--run", str(run), "--masks", str(tmp_path / "truth"), "--quiet"]) == 0
    read = Read(run / "report.html")
    row = read.rows[read.rows.index(read.row("truth \\ found")) + 2]
    assert row[0] == read.data["index"]["classes"][0][1]
    assert float(row[1].split()[0]) + float(row[2].split()[0]) == pytest.approx(100, abs=0.2)  # of its pixels


def test_settings_that_are_not_the_default_are_marked(finished):
    read = Read(finished / "report.html")
    assert read.row("epochs")[1:3] == ["2changed", "5"]
    assert read.row("backbone")[1:3] == ["test_resnetchanged", "resnet50"]
    assert read.row("optimizer")[1:3] == ["adamw", "adamw"]
    assert re.search(r"classify \(1-classify\): done, \d+ s, \d+ of \d+ settings", read.text)
    assert f"torch {json.loads((finished / 'run.json').read_text())['versions']['torch']}" in read.text


def test_the_command_on_the_page_makes_the_run_again(finished):
    (command,) = [words for words in Read(finished / "report.html").commands if words.startswith("advcam run")]
    again = finished.with_name("first-again")
    words = shlex.split(command)
    assert words[words.index("--out") + 1] == str(again)
    assert main([*words[1:], "--workers", "0", "--quiet"]) == 0
    steps, own = (json.loads((run / "run.json").read_text())["steps"] for run in (again, finished))
    assert {name: step["config"] for name, step in steps.items()} == {name: step["config"] for name, step in own.items()}
    for path in (finished / "3-refine" / "masks").iterdir():
        assert (again / "3-refine" / "masks" / path.name).read_bytes() == path.read_bytes()


def test_beside_it_lie_four_images_from_best_to_worst_with_a_legend(run):
    (run / "report.png").unlink()
    reported(run)
    with Image.open(run / "report.png") as sheet:
        assert sheet.width == 5 * 128 + 4 * 4
        assert sheet.height > 16 + 4 * 128 + 3 * 4
        pixels = np.asarray(sheet.convert("RGB"))
    colours = {tuple(colour) for colour in pixels[16 + 4 * 128 + 3 * 4 :].reshape(-1, 3)}
    assert {(128, 0, 0), (0, 128, 0), (128, 128, 0)} <= colours  # VOC's colours of the ids 1, 2 and 3


def test_a_list_of_scores_of_somebody_else_s_is_refused(run, capsys):
    (run / "per-image.csv").write_text("image,score\nscene-00016,much\n")
    before = (run / "report.html").read_bytes()
    assert main(["report", "--run", str(run), "--quiet"]) == 2
    assert "per-image.csv: is not what `advcam evaluate` writes; delete it, or evaluate again" in capsys.readouterr().err
    assert (run / "report.html").read_bytes() == before


def test_it_shows_the_studies_of_its_classifier(run, scenes):
    words = ["--masks", str(scenes / "masks"), "--sample", "4", "--resamples", "20", "--values", "0", "--steps", "1", "--quiet"]
    assert main(["study", "restrain", "--run", str(run), *words]) == 0
    read = Read(run / "report.html")
    assert "Study: restrain" in read.words
    assert (run / "studies/restrain/paragraph.txt").read_text().strip() in " ".join(read.words)
    files = [address for name, address in read.addresses if name == "href" and not address.startswith("#")]
    assert files == ["studies/restrain/rows.csv"]
    assert "data:image/png;base64," in read.page
    changed(run / "studies/restrain/study.json", lambda about: about.update(classifier="another"))
    assert "Study: restrain" not in reported(run).words


def test_it_has_a_table_of_localisation(run):
    one = {"max_box_acc": {"value": 0.5}, "max_box_acc_v2": {"value": 0.321}, "pxap": 0.25, "top1": None}
    places = {"plain": one, "advcam": one | {"pxap": 0.654, "top1": {"value": 0.75}}, "split": "eval.txt", "rule": "by boxes"}
    changed(run / "metrics.json", lambda metrics: metrics.update(localisation=places))
    read = reported(run)
    assert read.row("localisation, in %")[1:] == ["MaxBoxAcc", "MaxBoxAccV2", "PxAP", "top-1"]
    assert read.row("Plain map")[1:] == ["50.0", "32.1", "25.0", percent(None)]
    assert read.row("AdvCAM, default preset (ours)")[1:] == ["50.0", "32.1", "65.4", "75.0"]
    assert "eval.txt; by boxes" in read.words
