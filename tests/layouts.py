"""Generated scenes in the layouts of PASCAL VOC and COCO, as people have them on disk."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from advcam.data import SceneSettings, scene
from advcam.store import save_mask

VOC = ("aeroplane", "bicycle", "bird", "boat", "bottle")  # what a scene's classes 1 to 5 are called; VOC's ids, too
COCO = {1: (1, "person"), 2: (17, "cat"), 3: (18, "dog"), 4: (44, "bottle"), 5: (90, "toothbrush")}
SMALL = SceneSettings(size=64)


def write_voc(folder, train=6, score=3):
    """``VOC2012``: images, XML, lists, SegmentationClass with borders of 255, SegmentationObject."""
    root = folder / "VOC2012"
    for name in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    ids = []
    for at in range(train + score):
        made, name = scene((3, at), SMALL), f"2007_{at:06d}"
        ids.append(name)
        Image.fromarray(made.image).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        edge = _edge(made.instances)
        save_mask(root / "SegmentationClass" / f"{name}.png", np.where(edge, 255, made.mask).astype(np.uint8))
        save_mask(root / "SegmentationObject" / f"{name}.png", np.where(edge, 255, made.instances).astype(np.uint8))
        objects = "".join(
            f"<object><name>{VOC[label - 1]}</name><difficult>{at % 2}</difficult><part><name>head</name></part></object>"
            for label in made.labels
        )
        (root / "Annotations" / f"{name}.xml").write_text(
            f"<annotation>\n<filename>{name}.jpg</filename>\n{objects}\n</annotation>\n"
        )
    for name, part in (("train", ids[:train]), ("trainaug", ids[:train]), ("val", ids[train:])):
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(part) + "\n")
    return root


def write_coco(folder, train=6, score=3):
    """``coco``: annotations with polygons, run lengths and crowds; images in train2014 and val2014. Masks in ``truth``."""
    root = folder / "coco"
    at = 0
    for split, count in (("train2014", train), ("val2014", score)):
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for _ in range(count):
            made, name = scene((3, at), SMALL), f"COCO_{split}_{at:012d}"
            Image.fromarray(made.image).save(root / split / f"{name}.jpg", quality=95)
            images.append({"id": at, "file_name": f"{name}.jpg", "height": 64, "width": 64})
            for number in np.unique(made.instances[made.instances > 0]).tolist():
                place = made.instances == number
                label = int(np.bincount(made.mask[place]).argmax())
                how = (boxes, runs_of, text_of)[len(annotations) % 3]
                region = {"category_id": COCO[label][0], "area": int(place.sum()), "segmentation": how(place)}
                annotations.append({"id": len(annotations), "image_id": at, "iscrowd": int(how is runs_of), **region})
            mask = np.zeros(6, np.uint8)
            mask[list(COCO)] = [number for number, _ in COCO.values()]
            save_mask(folder / "truth" / split / f"{name}.png", mask[made.mask])
            at += 1
        categories = [{"id": number, "name": name, "supercategory": "x"} for number, name in COCO.values()]
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(
            json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories})
        )
    return root


def boxes(place):
    """A region as polygons: one rectangle for each run of a row."""
    polygons = []
    for y, row in enumerate(place):
        ends = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        polygons += [[int(x) for x in (a, y, b, y, b, y + 1, a, y + 1)] for a, b in ends.reshape(-1, 2)]
    return polygons


def runs_of(place):
    """A region as COCO's run lengths, numbers."""
    flat = place.T.ravel().astype(int)
    ends = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return {"size": list(place.shape), "counts": np.diff([0, *ends, flat.size]).tolist()}


def text_of(place):
    """A region as COCO's run lengths in a string."""
    counts, text = runs_of(place)["counts"], ""
    for at, count in enumerate(counts):
        value, more = count - (counts[at - 2] if at > 2 else 0), True
        while more:
            bits, value = value & 0x1F, value >> 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr((bits | (0x20 if more else 0)) + 48)
    return {"size": list(place.shape), "counts": text}


def _edge(instances):
    """Pixels with another object, or none, to the right or below."""
    edge = np.zeros(instances.shape, bool)
    edge[:, :-1] |= instances[:, :-1] != instances[:, 1:]
    edge[:-1] |= instances[:-1] != instances[1:]
    return edge
