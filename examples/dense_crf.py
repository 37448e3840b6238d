"""Refine maps of one image to a mask by the dense CRF.

python examples/dense_crf.py                                                                  a generated scene
python examples/dense_crf.py photos/cat.jpg runs/first/2-climb/maps/cat.npz --threshold 0.3 --out refined

Maps are thresholded, and the CRF moves the outline to the edges of the image. Without arguments the maps are true
masks, blurred. Written are seed.png and refined.png, masks of class ids.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

import advcam
from advcam.data import SceneSettings, read_image, scene
from advcam.metrics import confusion, mean_iou
from advcam.refinement import argmax_mask, unary_from_labels
from advcam.store import load_maps, save_mask

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("image", nargs="?", type=Path)
parser.add_argument("maps", nargs="?", type=Path, help="its map file of a run, .npz")
parser.add_argument("--threshold", type=float, default=0.3, help="background threshold, a share of the map's maximum")
parser.add_argument("--certainty", type=float, default=0.7, help="probability that the CRF gives to the thresholded label")
parser.add_argument("--out", type=Path)
given = parser.parse_args()
if (given.image is None) != (given.maps is None):
    parser.error("give an image and its map file, or neither")

out, truth = given.out or Path(tempfile.mkdtemp(prefix="advcam-")), None
if given.image is not None:
    image, stored = read_image(given.image), load_maps(given.maps)
    ids, maps = stored.classes, F.interpolate(stored.maps[:, None], stored.size, mode="bilinear")[:, 0]
else:
    made = scene(1, SceneSettings(size=160, faint=(0.05, 0.1), strong=(0.2, 0.3)))
    image, ids, truth = Image.fromarray(made.image), made.labels, torch.from_numpy(made.mask).long()
    masks = [Image.fromarray(np.uint8(made.mask == c) * 255).filter(ImageFilter.GaussianBlur(12)) for c in ids]
    maps = torch.stack([torch.from_numpy(np.array(mask)) / 255 for mask in masks])

pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
seed = argmax_mask(maps, range(1, len(ids) + 1), given.threshold)  # 0, background, and the place of each class in ids
unary = unary_from_labels(seed[None].long(), len(ids) + 1, given.certainty)
refined = advcam.dense_crf(pixels, unary, bilateral=(50, 5, 10)).argmax(1)[0]
table = np.array([0, *ids], dtype=np.uint8)
for name, mask in (("seed", seed), ("refined", refined)):
    written = table[mask.long().numpy()]
    save_mask(out / f"{name}.png", written)
    if truth is not None:
        score = mean_iou(confusion(torch.from_numpy(written).long(), truth, 6)).item()
        print(f"{name}: mIoU {100 * score:.1f} %")
    print(f"wrote {out / f'{name}.png'}")
