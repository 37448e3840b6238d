"""Train a network of your own in plain PyTorch, and make AdvCAMs of its images.

python examples/own_module.py                                                generated scenes
python examples/own_module.py --images photos --labels labels.csv --side 224 --epochs 50 --out maps

AdvCAM takes any torch.nn.Module that returns logits [N, K]. The head here has two linear layers, so the maps are weighted by
the head's gradient instead of a row of weights. Written is maps.npz: maps [M, h, w], image [M], target [M].
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import advcam
from advcam.data import SceneSettings, load, write_dataset


def network(classes: int) -> nn.Module:
    """Four convolutions of stride 2, the mean over cells, and a head of two layers."""
    blocks = [(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in ((3, 16), (16, 32), (32, 64), (64, 64))]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, classes)
    return nn.Sequential(*(layer for block in blocks for layer in block), *head)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--images", type=Path, help="a folder of images; goes with --labels")
parser.add_argument("--labels", type=Path, help="CSV image,labels")
parser.add_argument("--side", type=int, default=64, help="images are resized to this, pixels")
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--out", type=Path)
given = parser.parse_args()

out = given.out or Path(tempfile.mkdtemp(prefix="advcam-"))
out.mkdir(parents=True, exist_ok=True)
if given.images is None:  # scenes whose telling part is large, so that a small network learns them in seconds
    write_dataset(out / "scenes", 400, 0, 0, SceneSettings(size=64, part=0.24, hidden=0.0))
data = load(given.images or out / "scenes" / "images", given.labels or out / "scenes" / "labels.csv")
images = [np.array(item.read().resize((given.side, given.side))) for item in data.train]
pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1
shown = torch.tensor([[float(c in item.labels) for c in range(len(data.classes))] for item in data.train])

torch.manual_seed(0)
model = network(len(data.classes))
optimizer, loss_of = torch.optim.AdamW(model.parameters(), 2e-3), nn.BCEWithLogitsLoss()
for epoch in range(given.epochs):
    for rows in torch.randperm(len(pixels)).split(16):
        loss = loss_of(model(pixels[rows]), shown[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
found = advcam.AdvCAM(model)(pixels[:16], shown[:16])  # a 0/1 table of classes, or lists of class ids
print(found)
np.savez_compressed(out / "maps.npz", maps=found.normalised().numpy(), image=found.image.numpy(), target=found.target.numpy())
print(f"wrote {out / 'maps.npz'}")
