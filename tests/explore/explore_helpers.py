"""The server of the page, as the command makes it."""

from advcam.commands.explore import ExploreConfig, shown
from advcam.commands.session import Session
from advcam.explore.server import Explorer, application
from advcam.pipeline import reopen
from advcam.progress import Reporter
from advcam.runtime import Runtime

TOKEN = "secret"


def explorer(scratch, **given):
    """The explorer as the command makes it."""
    config = ExploreConfig(who="ann", **given)
    session = Session(Runtime(), Reporter(quiet=True))
    context = reopen(config.run, None, session.runtime, session.reporter, config.images) if config.run else None
    scratch.mkdir(exist_ok=True)
    return Explorer(*shown(config, session, context, scratch))


def served(explorer):
    """Its application."""
    return application(explorer, TOKEN)
