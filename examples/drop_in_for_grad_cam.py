"""A script for pytorch-grad-cam, with advcam in place of its GradCAM: one import changes, the rest stays.

python examples/drop_in_for_grad_cam.py                                              a generated scene, random weights
python examples/drop_in_for_grad_cam.py cat.jpg --model resnet50 --class 281 --out cat

Needs pip install grad-cam, of which drawing and targets are used. First the plain Grad-CAMs of both libraries are compared,
without each map's minimum, which pytorch-grad-cam subtracts. Written are gradcam.png and advcam.png.
"""

import advcam  # isort: skip  (first: beside a CPU-only torch it makes timm and pytorch-grad-cam importable)

import argparse
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from timm.data import create_transform, resolve_model_data_config

from advcam.compat import grad_cam
from advcam.data import SceneSettings, scene

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("image", nargs="?", type=Path)
parser.add_argument("--model", default="resnet18", choices=["resnet18", "resnet34", "resnet50", "resnet101"])
parser.add_argument("--class", type=int, dest="target", default=281)
parser.add_argument("--preset", default="default", choices=advcam.PRESETS)
parser.add_argument("--out", type=Path)
given = parser.parse_args()

out = given.out or Path(tempfile.mkdtemp(prefix="advcam-"))
out.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
model = timm.create_model(given.model, pretrained=given.image is not None).eval()
data = resolve_model_data_config(model)
image = Image.open(given.image).convert("RGB") if given.image else Image.fromarray(scene(0, SceneSettings(size=256)).image)
input_tensor = create_transform(**data, is_training=False)(image)[None]
mean, std = (torch.tensor(data[name])[:, None, None] for name in ("mean", "std"))
rgb = (input_tensor[0] * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()

asked = {"input_tensor": input_tensor, "targets": [ClassifierOutputTarget(given.target)]}
with GradCAM(model=model, target_layers=[model.layer4[-1]]) as cam:
    theirs = cam(**asked)[0]
with grad_cam.GradCAM(model=model, target_layers=[model.layer4[-1]]) as cam:
    ours = cam(**asked)[0]
least = ours.min()
print(f"plain Grad-CAM, largest difference: {np.abs((ours - least) / (ours.max() - least) - theirs).max():.1e}")

with grad_cam.AdvCAM(model=model, target_layers=[model.layer4[-1]], preset=given.preset) as cam:
    climbed = cam(**asked)[0]
for name, values in (("gradcam", ours), ("advcam", climbed)):
    Image.fromarray(show_cam_on_image(rgb, values, use_rgb=True)).save(out / f"{name}.png")
    print(f"wrote {out / f'{name}.png'}")
