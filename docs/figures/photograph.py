"""The photograph of the README: image, plain map, AdvCAM, mask.

    python docs/figures/photograph.py PHOTOGRAPH WEIGHTS

PHOTOGRAPH is scikit-image's ``skimage/data/chelsea.png`` (CC0, Stefan van der Walt), WEIGHTS those of an ImageNet MobileNetV2
with 1,001 outputs and input in [-1, 1] (``../shared/photos`` has such a file). Writes ``docs/figures/photograph.jpg``.
"""

import sys
from pathlib import Path

import advcam  # isort: skip  (before timm)
import numpy as np
import timm
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from PIL import Image
from safetensors.torch import load_file

from advcam.models.levels import find_levels
from advcam.refinement import on_one_grid, pamr, similarity_walk

CAT = 286  # Egyptian cat, the class with the highest score
SIDE = 320
THRESHOLD = 0.62  # `refine` chose .56 to .65 on photographs


def network(weights: str, stride: int = 16) -> torch.nn.Module:
    """MobileNetV2."""
    model = timm.create_model("mobilenetv2_100", pad_type="same", num_classes=1001, output_stride=stride)
    model.load_state_dict({name: value.float() for name, value in load_file(weights).items()}, strict=False)
    return model.eval()


def overlay(image: np.ndarray, heat: torch.Tensor) -> np.ndarray:
    """The map in colours over the image."""
    return (0.45 * image + 0.55 * 255 * colormaps["turbo"](heat.numpy())[..., :3]).astype(np.uint8)


def main(photograph: str, weights: str) -> None:
    """Draws the four panels, with the defaults of a run: preset multiscale, then the walk over similar features and PAMR."""
    found = Image.open(photograph).convert("RGB")
    shown = np.array(found.resize((SIDE, round(SIDE * found.height / found.width))))
    pixels, size, grid = torch.from_numpy(shown).permute(2, 0, 1)[None], shown.shape[:2], (40, 60)
    given = pixels / 127.5 - 1
    out = advcam.AdvCAM(network(weights), preset="multiscale")(given, [[CAT]])
    plain, climbed = (each.normalised(size=size)[0] for each in (out.plain, out))
    levels = [level[0] for level in find_levels(network(weights, 32), given)(given)]
    seen = torch.cat([on_one_grid(levels, grid), 0.5 * on_one_grid([pixels[0].float()], grid)])
    walked = similarity_walk(out.normalised(size=grid), seen, 0.1, 0.02, 0.3)
    along = pamr(pixels.float(), F.interpolate(walked[None], size))[0, 0]
    mask = (along > THRESHOLD * along.max()).numpy()
    cut = np.where(mask[..., None], shown, 255 - (255 - shown) // 5)
    panels = [shown, overlay(shown, plain), overlay(shown, climbed), cut.astype(np.uint8)]
    Image.fromarray(np.concatenate(panels, 1)).save(Path(__file__).with_suffix(".jpg"), quality=88)


if __name__ == "__main__":
    main(*sys.argv[1:])
