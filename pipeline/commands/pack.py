"""The command `pack`."""

from collections.abc import Mapping
from typing import Any

from ..beam.loading import load_beam_meanwhile
from ..job.folder import locked
from ..job.places import refuse_one_inside_another
from ..pack.job import pack
from .invocation import Invocation, folder_at
from .summary import shard_tables

__all__ = ["run_pack"]


def run_pack(flags: Mapping[str, Any]) -> None:
    """Packs a token store."""
    call = Invocation(flags)
    config, settings = call.pack_config(), call.run_settings()
    if call.print_config(config):
        return
    store, out = folder_at(flags["store"]), call.out
    settings.refuse_unreachable([store.url, out.url])
    refuse_one_inside_another(store=store, out=out)
    load_beam_meanwhile(whole=not settings.is_embedded)
    with locked(out):
        finished = pack(config, store, out, settings, call.console, overwrite=flags["overwrite"])
    call.report(finished, out, shard_tables(finished.manifest))
