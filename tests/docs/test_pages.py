"""README and documentation: every code block runs, every link leads somewhere, every option exists."""

import contextlib
import re
import shutil
from pathlib import Path

import pytest
import timm
from workspace import LANGUAGES, STARTS_WITH, blocks, every_flag, parse, write_first_run, write_workspace

from advcam.models import classifiers

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = {"results.md", "options.md", "python.md", "attribution.md", "refinement.md", "metrics.md", "consistency.md"}
WORDS = 1200


def name(page):
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="session")
def workspaces(tmp_path_factory):
    bare = tmp_path_factory.mktemp("bare") / "work"
    bare.mkdir()
    write_workspace(bare)
    made = tmp_path_factory.mktemp("made") / "work"
    shutil.copytree(bare, made)
    write_first_run(made)
    return {False: bare, True: made}


@pytest.fixture
def no_downloads(monkeypatch):
    real = timm.create_model
    without = lambda name, pretrained=False, **rest: real(name, **rest)  # noqa: E731
    monkeypatch.setattr(timm, "create_model", without)
    monkeypatch.setattr(classifiers.timm, "create_model", without)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_blocks(page, workspaces, tmp_path, no_downloads):
    text = page.read_text(encoding="utf-8")
    languages = set(re.findall(r"^ *```(\S+)$", text, re.MULTILINE))
    assert languages <= LANGUAGES, languages
    examples = list(blocks(page))
    if not examples:
        return
    work = tmp_path / "work"
    shutil.copytree(workspaces[bool(STARTS_WITH.search(text))], work)
    with contextlib.chdir(work):
        for example in examples:
            example.evaluate()


def anchors(page):
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name(page)}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{name(page)}: {target}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in GENERATED or p.parent.name == "how-to"], ids=name)
def test_pages_are_short_and_in_the_navigation(page):
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^ *```.*?^ *```|^\|.*?$|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)
    assert len(prose.split()) <= (500 if page.name == "README.md" else WORDS), len(prose.split())
    assert text.count("\n# ") + text.startswith("# ") == 1
    if page.is_relative_to(ROOT / "docs"):
        assert str(page.relative_to(ROOT / "docs")) in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_every_option_that_is_named_exists():
    known = every_flag()
    for page in PAGES:
        text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for code in re.findall(r"`([^`\n]+)`", text):
            if code.startswith("advcam ") and " --" in code and "..." not in code and not re.search(r"[A-Z]{3,}|\|", code):
                parse(code)
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", code))
            assert named <= known, f"{name(page)}: {named - known}"
