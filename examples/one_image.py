"""Draw the plain map and the AdvCAM of some classes of one image.

python examples/one_image.py                                             a generated scene, random weights
python examples/one_image.py cat.jpg --classes 281 282 --out cat         an image of yours, timm's pretrained weights

Without --classes the maps are of the classes that the network itself finds. The image is cut as the network wants it. Written
are plain-K.png and advcam-K.png of every class K.
"""

import advcam  # isort: skip  (first: beside a CPU-only torch it makes timm importable)

import argparse
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from advcam.data import SceneSettings, scene

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("image", nargs="?", type=Path)
parser.add_argument("--model", default="resnet18", help="any classifier of timm")
parser.add_argument("--classes", nargs="+", type=int)
parser.add_argument("--preset", default="default", choices=advcam.PRESETS)
parser.add_argument("--out", type=Path, default=None)
given = parser.parse_args()

out = given.out or Path(tempfile.mkdtemp(prefix="advcam-"))
out.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
model = timm.create_model(given.model, pretrained=given.image is not None)
data = resolve_model_data_config(model)
image = Image.open(given.image).convert("RGB") if given.image else Image.fromarray(scene(0, SceneSettings(size=256)).image)
pixels = create_transform(**data, is_training=False)(image)[None]

found = advcam.AdvCAM(model, given.preset)(pixels, [given.classes] if given.classes else None)
print(found)
size = tuple(pixels.shape[2:])
mean, std = (torch.tensor(data[name])[:, None, None] for name in ("mean", "std"))
shown = (pixels[0] * std + mean).clamp(0, 1).mean(0).numpy()[..., None]  # grey, as the network sees it
for name, maps in (("plain", found.plain), ("advcam", found)):
    for number, values in zip(found.target.tolist(), maps.normalised(size).numpy(), strict=True):
        colour = np.clip(3 * values[..., None] - np.arange(3), 0, 1)  # black, red, yellow, white
        share = 0.25 + 0.6 * values[..., None]
        path = out / f"{name}-{number}.png"
        Image.fromarray(((shown * (1 - share) + colour * share) * 255).astype(np.uint8)).save(path)
        print(f"wrote {path}")
