"""Compare any masks, and map files at all background thresholds, with ground truth.

python examples/evaluate_masks.py                                                             generated masks and maps
python examples/evaluate_masks.py --truth truth --classes classes.csv --masks masks --out scores
python examples/evaluate_masks.py --truth truth --classes classes.csv --maps runs/first/2-climb/maps --out scores

Masks and truth are ID.png of class ids: 0 is background, 255 in the truth is not scored, 255 in a mask counts as background.
Printed are mIoU with its 95 % interval (bootstrap over images), noise, and each class's IoU. Written are per-image.csv of the
masks and sweep.csv of the maps.
"""

import argparse
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

import advcam
from advcam.data import SceneSettings, read_classes, write_dataset
from advcam.metrics import confusion, interval, iou, mean_iou, noise, resampled
from advcam.store import load_maps, load_mask, write_csv

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name in ("truth", "classes", "masks", "maps", "out"):
    parser.add_argument(f"--{name}", type=Path)
given = parser.parse_args()
out = given.out or Path(tempfile.mkdtemp(prefix="advcam-"))
if given.truth is None:  # the telling parts of objects stand for masks that find too little
    write_dataset(out / "scenes", 8, 0, 0, SceneSettings(size=96))
    given.truth, given.masks, given.classes = (out / "scenes" / name for name in ("masks", "parts", "classes.csv"))

classes = read_classes(given.classes)
positions, names = torch.from_numpy(classes.positions(others=0)).long(), ("background", *classes.names)
truth = {path.stem: positions[torch.tensor(load_mask(path)).long()] for path in sorted(given.truth.glob("*.png"))}

if given.masks:
    ids = [name for name in truth if (given.masks / f"{name}.png").is_file()]
    masks = [positions[torch.tensor(load_mask(given.masks / f"{name}.png")).long()] % 255 for name in ids]
    each = torch.stack([confusion(mask, truth[name], len(names)) for name, mask in zip(ids, masks, strict=True)])
    drawn = (resampled(len(ids)) @ each.flatten(1).double()).unflatten(1, each.shape[1:])  # counts of 1,000 samples of images
    (low, high), total = interval(mean_iou(drawn)), each.sum(0)
    print(f"{len(ids)} masks: mIoU {mean_iou(total):.3f} [{low:.3f}, {high:.3f}], noise {noise(total):.3f}")
    print(", ".join(f"{name} {value:.3f}" for name, value in zip(names, iou(total).tolist(), strict=True)))
    write_csv(out / "per-image.csv", ["image", "mIoU"], [[i, f"{v:.4f}"] for i, v in zip(ids, mean_iou(each), strict=True)])
    print(f"wrote {out / 'per-image.csv'}")
if given.maps:
    stored = {name: load_maps(path) for name in truth if (path := given.maps / f"{name}.npz").is_file()}
    full = {name: F.interpolate(one.maps[:, None], one.size, mode="bilinear")[:, 0] for name, one in stored.items()}
    found = advcam.sweep(((full[n], positions[list(stored[n].classes)].tolist(), truth[n]) for n in full), len(names))
    print(f"{len(full)} map files: mIoU {found.mean_iou[found.best]:.3f} at {found.thresholds[found.best]}, the best threshold")
    rows = [[t, f"{m:.4f}"] for t, m in zip(found.thresholds, found.mean_iou.tolist(), strict=True)]
    write_csv(out / "sweep.csv", ["threshold", "mIoU"], rows)
    print(f"wrote {out / 'sweep.csv'}")
