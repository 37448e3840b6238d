"""The page of a run, as a browser would read it."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from advcam.cli import main


class Read(HTMLParser):
    """What a page consists of and asks for: tags, addresses by attribute, text, and the cells of each row of its tables."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.addresses, self.words, self.rows, self.cell = [], [], [], [], False
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

    def handle_endtag(self, tag):
        self.cell &= tag not in ("td", "th")

    def handle_data(self, data):
        self.words.append(data)
        if self.cell:
            self.rows[-1][-1] += data.strip()

    def row(self, head):
        """The first row that begins with these words."""
        return next(row for row in self.rows if row and row[0] == head)


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
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(read.tags)
    assert not re.search(r"@import|url\(", read.page)
    assert {name for name, _ in read.addresses} == {"src"}
    assert len(read.addresses) >= 8 * 5
    for _, address in read.addresses:
        head, _, content = address.partition(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as image:
            assert max(image.size) == 200
    for text in ("Best by mIoU of the AdvCAM seed", "Average precision of the classifier: ", "test_resnet"):
        assert text in read.page
    assert read.tags.count("polyline") == 2 + 2 + 1 + 2  # two seeds by two measures; losses; held-out mIoU


def test_its_numbers_are_those_that_were_measured(finished):
    read, metrics = Read(finished / "report.html"), json.loads((finished / "metrics.json").read_text())
    for name, title in (("seed_plain", "Seed, plain map"), ("masks", "Masks"), ("predictions", "Predictions")):
        found = metrics[name]
        ends = f" [{percent(found['interval'][0])}, {percent(found['interval'][1])}]" if "interval" in found else ""
        assert read.row(title)[1:3] == [percent(found["mean_iou"]) + ends, percent(found["noise"])]
        assert read.row(title)[4] == f"{found['split']}; {found['rule']}"
        assert [percent(value) for value in found["per_class"].values()] in [row[1:] for row in read.rows]
    assert read.row("IoU per class")[1:] == list(metrics["masks"]["per_class"])


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
    titles = [row[0] for row in read.rows if row and row[0].startswith("Seed, AdvCAM")]
    assert titles == [f"Seed, AdvCAM, {said}"] * 2  # of all, and by class
    assert read.row(f"AdvCAM, {said}")  # localisation


def test_what_comes_from_files_is_text_and_no_html(finished, tmp_path):
    run = Path(shutil.copytree(finished, tmp_path / "<i>me & 'you'"))
    changed(run / "metrics.json", lambda metrics: metrics["masks"].update(rule='<script>alert("1")</script>'))
    changed(run / "data.json", lambda data: data["eval"][0].update(id='"><iframe>'))
    changed(run / "metrics.json", lambda metrics: metrics["seed_advcam"]["per_class"].update({"<b>cat": 0.5}))
    read = reported(run)
    assert not {"i", "b", "script", "iframe"} & set(read.tags)
    assert read.row("IoU per class")[-1] == "<b>cat"
    assert read.words.count("<i>me & 'you'") == 1  # the heading
    assert read.row("Masks")[4].endswith('; <script>alert("1")</script>')


def test_without_ground_truth_it_shows_images_and_says_how_to_score(run):
    for name in ("metrics.json", "per-image.csv"):
        (run / name).unlink()
    read = reported(run)
    assert "Not scored: " in read.page
    assert "advcam evaluate --run run --masks DIR" in read.page
    assert "mIoU of the" not in read.page
    assert read.tags.count("img") == 8 * 5  # those that are scored on, with all that was made of them


def test_best_and_worst_are_in_order(run):
    read = reported(run)
    scores = [float(score) for score in re.findall(r"<figcaption>AdvCAM (\S+)</figcaption>", read.page)]
    rows = [line.split(",") for line in (run / "per-image.csv").read_text().split()]
    at = rows[0].index("advcam")
    assert scores == sorted((float(row[at]) for row in rows[1:]), reverse=True)
    first = re.search(r'alt="AdvCAM of ([^"]+)"', read.page)[1]
    assert {row[0]: float(row[at]) for row in rows[1:]}[first] == scores[0]


def test_an_image_that_is_gone_leaves_the_others(run, tmp_path):
    changed(run / "data.json", lambda data: data["eval"][0].update(path=str(tmp_path / "gone.png")))
    read = reported(run)
    assert read.tags.count("img") == 7 * 5


def test_beside_it_lie_four_images_from_best_to_worst(run):
    (run / "report.png").unlink()
    reported(run)
    with Image.open(run / "report.png") as sheet:
        assert sheet.size == (5 * 128 + 4 * 4, 4 * 128 + 3 * 4)


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
    assert [address for name, address in read.addresses if name == "href"] == ["studies/restrain/rows.csv"]
    assert "data:image/png;base64," in read.page
    changed(run / "studies/restrain/study.json", lambda about: about.update(classifier="another"))
    assert "Study: restrain" not in reported(run).words


def test_it_has_a_table_of_localisation(run):
    one = {"max_box_acc": {"value": 0.5}, "max_box_acc_v2": {"value": 0.321}, "pxap": 0.25, "top1": None}
    places = {"plain": one, "advcam": one | {"pxap": 0.654, "top1": {"value": 0.75}}, "split": "eval.txt", "rule": "by boxes"}
    changed(run / "metrics.json", lambda metrics: metrics.update(localisation=places))
    read = reported(run)
    assert read.row("Localisation")[1:] == ["MaxBoxAcc", "MaxBoxAccV2", "PxAP", "top-1"]
    assert read.row("Plain map")[1:] == ["50.0", "32.1", "25.0", percent(None)]
    assert read.row("AdvCAM, default preset (ours)")[1:] == ["50.0", "32.1", "65.4", "75.0"]
    assert "eval.txt; by boxes" in read.words
