"""The command `publish`."""

from collections.abc import Mapping
from typing import Any

from ...schemas.errors import UsageError
from ..publish.card import CARD
from ..publish.job import publish
from ..publish.push import Repository
from ..publish.settings import PublishConfig
from .invocation import Invocation, folder_at

__all__ = ["run_publish"]


def run_publish(flags: Mapping[str, Any]) -> None:
    """Writes a shard set as a folder with a card, and uploads it if that is asked for."""
    call = Invocation(flags)
    out = call.out
    config = PublishConfig(format=flags["to"], title=flags["title"], license=flags["license"])
    repository = None
    if flags["push"] is not None:
        if not out.is_local:
            raise UsageError(
                "--push needs a folder on a local disk", where=out.url, expected="a local folder"
            )
        call.console.say("asking the Hugging Face hub who is logged in")  # it may take its time
        repository = Repository(flags["push"])  # before the work, so that it is not for nothing
    shards = folder_at(flags["shards"])
    before = publish(config, shards, out, call.console, overwrite=flags["overwrite"])
    call.console.say(
        f"{out.url} was finished before, with the same settings and inputs"
        if before
        else f"{out.url} is complete; {out.url_of(CARD)} is its card"
    )
    if repository is not None:
        call.console.say(f"uploading to {repository.name}")
        call.console.say(f"{repository.upload(out)} has it")
