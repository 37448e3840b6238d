"""What a real kernel shows: results that draw themselves, and progress that stays in one place."""

import nbformat
import pytest
from nbclient import NotebookClient
from notebook_helpers import HOSTILE, Read

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MAPS = """
import advcam, torch
grids = (torch.rand(1, 3, 3),)
advcam.Maps.of(grids, (12, 12), image=torch.tensor([0]), target=torch.tensor([1]), first=grids)
"""
RUN = """
run = advcam.Run({root!r})
run
"""
BARS = """
import time
from advcam.progress import Reporter
reporter = Reporter()
reporter.say("begins")
for _ in reporter.track(range(20_000), 20_000, {name!r}): pass
with reporter.bar("long", 3) as advance:
    time.sleep(2.3)
with Reporter(quiet=True).bar("quiet", 3) as advance:
    advance(3)
"""
PROGRAM = """
import sys
code = "from advcam.progress import Reporter; list(Reporter().track(range(300), 300, 'of a program'))"
!{sys.executable} -c "{code}"
"""


class Client(NotebookClient):
    """Counts the changes of outputs."""

    def process_message(self, msg, cell, cell_index):
        self.changes = getattr(self, "changes", [])
        if msg["msg_type"] == "update_display_data":
            self.changes.append(msg["content"]["data"]["text/plain"])
        return super().process_message(msg, cell, cell_index)


@pytest.fixture(scope="module")
def executed(finished, kernels):
    cells = [MAPS, RUN.format(root=str(finished)), "run.plot('scene-00016', side=48)", BARS.format(name=HOSTILE), PROGRAM]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = Client(notebook, timeout=600, startup_timeout=300, config=kernels)
    client.execute()
    return [cell.outputs for cell in notebook.cells], client.changes


def test_results_draw_themselves(executed):
    outputs, _ = executed
    words = ["plain map, class 1", "steps", "scene-00016"]
    for (*_, shown), word in zip(outputs[:3], words, strict=True):  # other libraries may warn when they are imported
        assert shown.output_type == "execute_result"
        assert word in Read(shown.data["text/html"]).words


def test_a_bar_is_one_output_that_changes(executed):
    outputs, changes = executed
    said, many, long = outputs[3]
    assert (said.name, said.text) == ("stderr", "begins\n")
    assert many.data["text/plain"].startswith(f"{HOSTILE}: 20000 of 20000 in ")
    assert "script" not in Read(many.data["text/html"]).tags
    assert long.data["text/plain"].startswith("long: 0 of 3 in ")
    assert len([line for line in changes if line.startswith(HOSTILE)]) < 50
    meanwhile = [line for line in changes if line.startswith("long")][:-1]
    assert meanwhile, "nothing was said while one item took long"
    assert all(line.startswith("long: 0 of 3 in ") for line in meanwhile)


def test_a_program_that_a_cell_starts_prints_lines(executed):
    """Its standard error is a terminal, and FORCE_COLOR is set, but the notebook would show each drawing of a bar."""
    outputs, _ = executed
    (line,) = "".join(out.text for out in outputs[4]).splitlines()
    assert line.startswith("of a program: 300 of 300 in ")
