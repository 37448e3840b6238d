"""AdvCAMs of a vision transformer: at the layer that is found, and at layers that you name.

python examples/transformer.py                                               a generated scene, random weights
python examples/transformer.py cat.jpg --model vit_base_patch16_224 --class 281 --layers blocks.6 blocks.8 --out cat

A transformer of a fixed input size gets the image resized to that. Each map's grid and layer are printed. Written is maps.png:
the image, then one AdvCAM a layer, the first one at the layer that was found.
"""

import advcam  # isort: skip  (first: beside a CPU-only torch it makes timm importable)

import argparse
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import resolve_model_data_config

from advcam.data import SceneSettings, scene
from advcam.errors import NetworkError

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("image", nargs="?", type=Path)
parser.add_argument("--model", default="vit_tiny_patch16_224", help="a transformer of timm with a classifier's head")
parser.add_argument("--class", type=int, dest="target", help="default: the one with the highest logit")
parser.add_argument("--layers", nargs="*", default=["blocks.8", "blocks.11"], help="names of modules")
parser.add_argument("--out", type=Path)
given = parser.parse_args()

out = given.out or Path(tempfile.mkdtemp(prefix="advcam-"))
out.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
model = timm.create_model(given.model, pretrained=given.image is not None)
data = resolve_model_data_config(model)
size = data["input_size"][1:]
image = Image.open(given.image).convert("RGB") if given.image else Image.fromarray(scene(0, SceneSettings(size=256)).image)
image = image.resize(size[::-1], Image.Resampling.BICUBIC)
mean, std = (torch.tensor(data[name])[:, None, None] for name in ("mean", "std"))
pixels = (((torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255) - mean) / std)[None]

target = given.target if given.target is not None else int(advcam.AdvCAM(model).scores(pixels).argmax())
panels = [np.array(image)]
for layer in (None, *given.layers):
    try:
        found = advcam.AdvCAM(model, layer=layer)(pixels, [[target]])
    except NetworkError as error:  # no such layer, or one that the logits do not depend on
        print(f"{layer}: {error}")
        continue
    print(found)
    values = found.normalised(size)[0].numpy()[..., None]
    panels.append((np.clip(3 * values - np.arange(3), 0, 1) * 255).astype(np.uint8))  # black, red, yellow, white
Image.fromarray(np.concatenate(panels, 1)).save(out / "maps.png")
print(f"wrote {out / 'maps.png'}")
