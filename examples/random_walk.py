"""Spread maps of one image by IRN's random walk, which boundaries stop.

python examples/random_walk.py                                                     a generated scene
python examples/random_walk.py runs/first/2-climb/maps/cat.npz cat-edges.png --out walked

The boundary is a grey image, white where one thing ends and another begins; any edge detector makes one, and the refinement
method irn of a run trains a network for it. Without arguments the maps are the telling parts of the objects, and the boundary
is the true outline. Written are walked.png, a mask, and walked.npz, the maps as they were spread.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

import advcam
from advcam.data import SceneSettings, scene
from advcam.refinement import argmax_mask
from advcam.store import StoredMaps, load_maps, save_maps, save_mask

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("maps", nargs="?", type=Path, help="map file of a run, .npz")
parser.add_argument("boundary", nargs="?", type=Path)
parser.add_argument("--threshold", type=float, default=0.25, help="background threshold of the spread maps")
parser.add_argument("--beta", type=float, default=10, help="the higher, the rarer are steps over weak boundaries")
parser.add_argument("--out", type=Path)
given = parser.parse_args()
if (given.maps is None) != (given.boundary is None):
    parser.error("give a map file and a boundary, or neither")

out, truth = given.out or Path(tempfile.mkdtemp(prefix="advcam-")), None
if given.maps is not None:
    stored, edges = load_maps(given.maps), Image.open(given.boundary).convert("L")
else:
    made = scene(1, SceneSettings(size=160))
    truth, small = torch.from_numpy(made.mask).long(), made.part[2::4, 2::4]
    spots = [torch.from_numpy((small == c).astype(np.float32)) for c in made.labels]
    stored = StoredMaps(made.labels, torch.stack(spots), made.mask.shape)
    edges = Image.fromarray(made.instances * 100).filter(ImageFilter.FIND_EDGES)
grid = stored.maps.shape[1:]  # a quarter of the image's size
boundary = F.adaptive_max_pool2d(torch.from_numpy(np.array(edges)[None] / 255).float(), grid)

walked = advcam.random_walk(stored.maps, boundary, beta=given.beta)
walked = walked / walked.amax((1, 2), keepdim=True).clamp(min=1e-9)
save_maps(out / "walked.npz", StoredMaps(stored.classes, walked, stored.size))
save_mask(out / "walked.png", argmax_mask(walked, stored.classes, given.threshold, stored.size).numpy())
if truth is not None:
    for name, maps in (("maps", stored.maps), ("walked", walked)):
        full = F.interpolate(maps[:, None], stored.size, mode="bilinear")[:, 0]
        score = advcam.sweep([(full, stored.classes, truth)], 6)
        print(f"{name}: mIoU {100 * score.mean_iou[score.best]:.1f} % at the best threshold")
print(f"wrote {out / 'walked.npz'}\nwrote {out / 'walked.png'}")
