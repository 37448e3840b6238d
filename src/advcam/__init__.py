"""Image-level labels in, pixel masks out, by anti-adversarial climbing (AdvCAM)."""

from advcam import process

if process.is_command():
    process.answer_help()
    process.need_a_folder()
    process.share_cores()  # before torch is loaded
    process.stop_quietly()

from advcam.attribution import PRESETS
from advcam.extractor import AdvCAM, Maps, cam
from advcam.metrics import sweep
from advcam.refinement import dense_crf, random_walk, similarity_walk
from advcam.version import __version__

__all__ = ["PRESETS", "AdvCAM", "Maps", "__version__", "cam", "dense_crf", "random_walk", "similarity_walk", "sweep"]
