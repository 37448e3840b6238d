"""``advcam explore``: a local page on which maps grow while they are computed, and masks are corrected."""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import secrets
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from advcam.data import Place, Reading, ReadingConfig, list_images, look_at, place
from advcam.errors import SettingsError
from advcam.explore import Correcting, Corrections, Live, Model, Pictures
from advcam.models.classifiers import Backbone, PretrainedClassifier
from advcam.models.own import is_code
from advcam.options import option, plain
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.stages.classify import TimmInput
from advcam.stages.context import Context
from advcam.store import sweep

from .climb_image import ClimbImageConfig, open_model
from .session import Outcome, Session

NEEDED = ("starlette", "uvicorn")


@dataclass(frozen=True, kw_only=True)
class ExploreConfig(TimmInput, ReadingConfig):
    """What the page shows, and where it is."""

    run: Path | None = option(None, "a run: its classifier, images and masks", flag="run", common=True)
    models: tuple[str, ...] = option(
        (), "timm:NAME, FILE.py:FUNCTION or a run folder; may be repeated, to compare", flag="model", repeat=True, common=True
    )
    images: Place | None = option(
        None, "folder, archive or address of images; with --run: where the run's images are now, if they have moved",
        flag="images", common=True, make=place,
    )  # fmt: skip
    weights_file: Path | None = option(
        None, "weights of timm:NAME, instead of timm's from the hub", flag="weights", common=True
    )
    long_side: int = option(
        512, "larger images are climbed at this size, pixels; a network of one size gets that", flag="long-side", least=32,
        most=10**6,
    )  # fmt: skip
    layer: str | None = option(None, "layer whose output is the feature map; none: found", flag="layer")
    host: str = option(
        "127.0.0.1", "address to listen at; 0.0.0.0 lets other machines in, if they know the page's address", flag="host"
    )
    port: int = option(8765, "port to listen at; 0: any free one", flag="port", least=0, most=65535, common=True)
    open: bool = option(False, "open the page in the browser", flag="open", common=True)
    who: str = option("", "your name, for the log of corrections; empty: the name of the user", flag="who")


def run(config: ExploreConfig, session: Session) -> Outcome:
    """Serves the page until Ctrl-C. Masks and labels that are corrected there are written to RUN/corrected, nothing else.

    Raises:
        SettingsError: neither a run nor a model with images were given, a package is missing, or the port is in use.
        RunError: no such run.
        DataError: no such folder of images, or no image in it.
    """
    if config.run is None and not (config.models and config.images):
        raise SettingsError("give --run RUN, or --model timm:NAME with --images DIR")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise SettingsError(f"advcam explore needs {' and '.join(missing)}: pip install 'advcam[explore]'")
    from advcam.explore.server import Explorer, application, machine_names
    from advcam.explore.serving import is_local, listen, serve

    bound = listen(config.host, config.port)
    with contextlib.closing(bound), tempfile.TemporaryDirectory(prefix="advcam-explore-") as scratch:
        context = reopen(config.run, None, session.runtime, session.reporter, config.images) if config.run else None
        explorer = Explorer(*shown(config, session, context, Path(scratch)))
        local = is_local(config.host)
        token, port = secrets.token_urlsafe(24), bound.getsockname()[1]
        url = f"http://{_named(config.host)}:{port}/{token}/"
        app = application(explorer, token, frozenset() if local else machine_names(config.host))
        if not local:
            session.reporter.warn(
                f"--host {config.host}: whoever has the page's address can change this run's corrections, and the connection"
                " is not encrypted"
            )
        if explorer.correcting:
            explorer.correcting.begin_to_compare()
        session.reporter.say("the page, with a secret in its address; Ctrl-C ends it:")
        serve(app, bound, url, config.open, lambda: print(url, flush=True))
    return Outcome("explore: ended")


def _named(host: str) -> str:
    """A host as it stands in an address; one for all addresses as this machine's own."""
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{own}]" if ":" in own else own


def shown(
    config: ExploreConfig, session: Session, context: Context | None, scratch: Path
) -> tuple[Pictures, Live, Correcting | None]:
    """Returns what the page shows: images, climbs, and the run."""
    if context and config.run:
        items = {item.id: item for item in context.data.items}
        pictures = Pictures({name: item.path for name, item in items.items()}, items, context.data.reading, scratch)
        sweep(context.run.root / "corrected")
    else:
        files, reading = list_images(config.images or Path()), config.reading
        if reading.bands == "all":
            reading = reading.counted(look_at(next(iter(files.values())), reading).bands)
        pictures = Pictures(files, {}, reading, scratch)
    names = [*([str(config.run)] if config.run else []), *config.models]
    models = {name: _model(config, session, name, pictures.reading, context) for name in dict.fromkeys(names)}
    live = Live(models, pictures, config.long_side, config.layer, session.runtime.max_pixels)
    if context is None:
        return pictures, live, None
    context.run.see_no_links(context.run.root / "corrected")
    return pictures, live, Correcting(context, Corrections(context.run, context.data.classes, config.who or _user()))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name for this user's number
        return "somebody"


def _model(config: ExploreConfig, session: Session, name: str, reading: Reading, context: Context | None) -> Model:
    """Returns a model that is opened as ``advcam climb-image`` opens it, when it is first used.

    Raises:
        SettingsError: neither a network of timm, nor code, nor a folder.
    """
    kind, _, network = name.partition(":")
    own = context is not None and name == str(config.run)
    load = partial(_loaded, config, session, name, kind == "timm", reading)
    if kind == "timm":
        backbone = Backbone(network, config.backbone_option, 32, config.mean, config.std, channels=reading.channels)
        code = OF_TIMM.format(backbone=repr(backbone), weights=_path(config.weights_file))
    elif is_code(name):
        normalise = Backbone("resnet50", mean=config.mean, std=config.std, channels=reading.channels).normalisation()
        code = OF_CODE.format(name=name, normalise=normalise)
    elif own or Path(name).is_dir():
        code = OF_RUN.format(name=str(Path(name).resolve()))
    else:
        raise SettingsError(f"--model {name}: expected timm:NAME, FILE.py:FUNCTION, or the folder of a run")
    flags = _flags(config, kind == "timm", is_code(name)) + ([] if own else _reading_flags(reading))
    return Model(str(Path(name).resolve()) if own else name, load, session.runtime.torch_device(), tuple(flags), code)


def _loaded(config: ExploreConfig, session: Session, name: str, of_timm: bool, reading: Reading) -> PretrainedClassifier:
    asked: dict[str, Any] = {"mean": config.mean, "std": config.std} if of_timm or is_code(name) else {}
    asked |= {"weights_file": config.weights_file, "backbone_option": config.backbone_option} if of_timm else {}
    asked |= {"bands": plain(reading.bands), "one_channel": reading.one_channel}
    opened = ClimbImageConfig(image=Path("image"), out=Path("out"), model=name, **asked)
    return open_model(opened, session.runtime, Reporter(quiet=True))[0]


def _flags(config: ExploreConfig, of_timm: bool, of_code: bool) -> list[str]:
    """The words by which ``advcam climb-image`` opens the same network."""
    words = list[str]()
    if of_timm:
        words += ["--weights", str(config.weights_file.resolve())] if config.weights_file else []
        words += [word for key, value in config.backbone_option.items() for word in ("--backbone-option", f"{key}={value}")]
    if of_timm or of_code:
        words += [word for key in ("mean", "std") if getattr(config, key) for word in (f"--{key}", plain(getattr(config, key)))]
    return words


def _reading_flags(reading: Reading) -> list[str]:
    """The words by which it reads images in the same way."""
    words = ["--range", reading.window if isinstance(reading.window, str) else plain(reading.window)]
    words = [] if reading.window == ReadingConfig().reading.window else words
    words += ["--bands", plain(reading.bands)] if reading.bands else []
    words += ["--one-channel"] if reading.one_channel else []
    return words + (["--page", str(reading.page)] if reading.page > 1 else [])


def _path(path: Path | None) -> str:
    return f"Path({str(path.resolve())!r})" if path else "None"


OF_TIMM = """
from advcam.models.classifiers import Backbone, pretrained_classifier

ready = pretrained_classifier({backbone}, {weights})
model, mean, std, size = ready.model, ready.mean, ready.std, ready.size
"""
OF_CODE = """
from advcam.models.own import allow, own_classifier

allow({name!r})
model, (mean, std), size = own_classifier({name!r}).eval(), {normalise!r}, None
"""
OF_RUN = """
from advcam.models.classifiers import Backbone
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.runtime import Runtime
from advcam.stages.context import trained_classifier

model, record = trained_classifier(reopen(Path({name!r}), None, Runtime(), Reporter(quiet=True)))
(mean, std), size = Backbone.from_record(record.backbone).normalisation(), None
"""
"""Python that opens a model, for whoever copies a climb."""
