"""What the page shows besides the run itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from advcam.options import Config, option


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Config):
    """Ground truth to show beside the masks, and images whose climb is shown step by step."""

    masks: Path | None = option(
        None, "ground truth to show, ID.png with class ids; none: that of the last evaluate or report", flag="masks",
        common=True, file=True,
    )  # fmt: skip
    mask_colours: Path | None = option(
        None, "CSV id,colour: the colours of RGB masks; none: VOC's", flag="mask-colours", file=True
    )
    grow: int = option(
        0, "number of images, from the worst to the best, to climb again and to show after every step; 0 keeps those there are",
        flag="grow", least=0, most=10_000, common=True,
    )  # fmt: skip
