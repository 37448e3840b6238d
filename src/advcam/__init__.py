"""Image-level labels in, pixel masks out, by anti-adversarial climbing (AdvCAM)."""

from advcam import process

if process.is_command():
    process.answer_help()
    process.need_a_folder()
    process.share_cores()  # before torch is loaded
    process.stop_quietly()

from typing import TYPE_CHECKING

from advcam import notebook as notebook  # registers how results are drawn
from advcam.attribution import PRESETS
from advcam.extractor import AdvCAM, Maps, cam
from advcam.metrics import sweep
from advcam.refinement import dense_crf, random_walk, similarity_walk
from advcam.version import __version__

if TYPE_CHECKING:
    from advcam.notebook.run import Run

__all__ = [
    "PRESETS",
    "AdvCAM",
    "Maps",
    "Run",
    "__version__",
    "cam",
    "dense_crf",
    "random_walk",
    "similarity_walk",
    "sweep",
]


def __getattr__(name: str) -> object:
    """Imports what loads all steps of a run when it is first asked for."""
    if name != "Run":
        raise AttributeError(f"module 'advcam' has no attribute {name!r}")
    from advcam.notebook.run import Run

    return Run
