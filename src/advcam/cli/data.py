"""``advcam data check`` and ``advcam data convert``: their options and what they call."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import options as o


def add_data_verbs(parser: ArgumentParser, checks: Callable[[Namespace], int], converts: Callable[[Namespace], int]) -> None:
    """What can be done with a data set before a run."""
    verbs = parser.add_subparsers(title="commands", required=True, metavar="VERB")

    def verb(name: str, call: Any, about: str, example: str) -> ArgumentParser:
        made: ArgumentParser = verbs.add_parser(
            name, help=about, description=about, epilog=f"example:\n  advcam data {name} {example}",
            formatter_class=RawDescriptionHelpFormatter,
        )  # fmt: skip
        made.set_defaults(call=call)
        o.add_common(made, name)
        return made

    look = verb(
        "check", checks, "Look at a data set: images, classes, sizes, what a run would leave out, ground truth.",
        "--labels VOCdevkit/VOC2012 --masks VOCdevkit/VOC2012/SegmentationClass",
    )  # fmt: skip
    o.add_data(look, required=True)
    look.add_argument("--masks", type=Path, metavar="DIR", help="ground truth, ID.png with class ids, looked at too")
    look.add_argument(
        "--out", type=Path, default=Path("problems.csv"), metavar="FILE", help="list of the problems (default: problems.csv)"
    )

    turn = verb(
        "convert", converts, "Write VOC or COCO as labels.csv, classes.csv and lists; COCO's regions as masks.",
        "--labels coco --out coco-masks",
    )  # fmt: skip
    turn.add_argument(
        "--labels",
        type=Path,
        required=True,
        metavar="WHAT",
        help="a VOC folder, COCO's instances_*.json, a COCO or Roboflow folder",
    )
    turn.add_argument(
        "--classes", type=Path, metavar="FILE", help="CSV id,name: the ids that masks have, by name (default: the source's)"
    )
    turn.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the files go")
