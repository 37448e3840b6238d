"""AdvCAMs of every image of a folder, several at a time; images whose maps are there already are left out.

python examples/batch_of_folder.py                                           a few generated scenes, random weights
python examples/batch_of_folder.py photos --model resnet50 --out maps        timm's pretrained weights

Images keep their shapes and are scaled to a longer side of --side; those of one shape are climbed together. The maps are of the
classes that the network itself finds in an image. Written is NAME.npz for each image: classes [k], maps float16 [k, h, w] with
maximum 1, size (H, W) of the image; advcam.store.load_maps reads it, and so does numpy.load.
"""

import advcam  # isort: skip  (first: beside a CPU-only torch it makes timm importable)

import argparse
import tempfile
from pathlib import Path

import timm
import torch
from timm.data import resolve_model_data_config

from advcam.attribution import strided_size
from advcam.data import NetworkInput, SceneSettings, list_images, read_image, write_dataset
from advcam.errors import ImageError
from advcam.store import StoredMaps, save_maps

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", nargs="?", type=Path)
parser.add_argument("--model", default="resnet18", help="any classifier of timm that takes images of any size")
parser.add_argument("--side", type=int, default=320)
parser.add_argument("--batch", type=int, default=8, help="images read at a time")
parser.add_argument("--preset", default="fast", choices=advcam.PRESETS)
parser.add_argument("--out", type=Path)
given = parser.parse_args()

out = given.out or Path(tempfile.mkdtemp(prefix="advcam-"))
folder = given.folder or out / "scenes" / "images"
if given.folder is None:
    write_dataset(out / "scenes", 6, 0, 0, SceneSettings(size=128))
torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
model = timm.create_model(given.model, pretrained=given.folder is not None).to(device)
data = resolve_model_data_config(model)
prepare, adv = NetworkInput(data["mean"], data["std"], given.side), advcam.AdvCAM(model, given.preset)

left = [(name, path) for name, path in list_images(folder).items() if not (out / f"{name}.npz").is_file()]
for start in range(0, len(left), given.batch):
    names, images = [], []
    for name, path in left[start : start + given.batch]:
        try:
            images.append(read_image(path))
            names.append(name)
        except ImageError as error:
            print(f"left out: {error}")
    found = adv([prepare(image).to(device) for image in images])
    for name, image, maps in zip(names, images, found, strict=True):
        size, path = (image.height, image.width), out / f"{name}.npz"
        save_maps(path, StoredMaps(tuple(maps.target.tolist()), maps.normalised(strided_size(size)), size))
        print(f"wrote {path}")
