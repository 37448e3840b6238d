"""What is seen on the page as a command and as Python."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from advcam.attribution import ClimbSettings
from advcam.errors import SettingsError
from advcam.options import options_of, plain

from .live import Asked, Live
from .pictures import DROPPED


def as_command(live: Live, asked: Asked) -> str:
    """Returns the command that makes the same maps, as ``advcam climb-image`` does.

    Args:
        live: what the page climbs with.
        asked: the climb.

    Raises:
        SettingsError: several scales, which an animation does not have.
        InputError: no such model.
    """
    if len(asked.settings.scales) > 1:
        raise SettingsError("a command climbs one image at one scale, and this has several: copy it as Python")
    owner, about = live.model(asked.model), options_of(ClimbSettings)
    said = ["advcam", "climb-image", _file(live, asked.image), "--model", owner.name, *owner.flags]
    for at in asked.classes:
        said += ["--class", str(owner.class_id(at))]
    said += ["--preset", asked.preset]
    for name, value in asked.changes.items():
        flag = about[name].flag
        if isinstance(value, bool) and flag:
            said.append(f"--{flag}" if value else f"--no-{flag}")
        elif flag:
            said += [f"--{flag}", plain(value)]
        else:
            said += ["--climb-option", f"{name}={'None' if value is None else plain(value)}"]
    said += ["--long-side", str(live.long_side), *(["--layer", live.layer] if live.layer else [])]
    return shlex.join([*said, "--out", "climbed"])


def as_python(live: Live, asked: Asked) -> str:
    """Returns a program that makes the same maps.

    Raises:
        InputError: no such model.
    """
    owner, name = live.model(asked.model), asked.image
    reading: Any = live.pictures.items[name].reading if name in live.pictures.items else live.pictures.reading
    given = ({"layer": live.layer} if live.layer else {}) | asked.changes
    kept = "".join(f", {key}={value!r}" for key, value in given.items())
    local = isinstance(live.pictures.path(name), Path)
    return f"""\
from pathlib import Path

import advcam
import advcam.models
from advcam.data import NetworkInput, Reading, read_image
{"" if local else "from advcam.data.places import place"}
{owner.code.strip()}
image = read_image({"Path" if local else "place"}({_file(live, name)!r}), reading=Reading.from_record({reading.record()!r}))
pixels = NetworkInput(mean, std, {live.long_side}, size)(image)[None].to(next(model.parameters()).device)
adv = advcam.AdvCAM(model, {asked.preset!r}{kept})
maps = adv(pixels, [{list(asked.classes)!r}])
print(maps)
on_image = maps.normalised((image.height, image.width))  # [classes, height, width] in [0, 1]
"""


def _file(live: Live, image: str) -> str:
    """The path of an image; of one that was dropped its name alone, as a page does not learn where it lies."""
    path = live.pictures.path(image)
    if image.startswith(DROPPED):
        return f"./{image.split(':', 2)[2]}"
    return str(path.resolve())
