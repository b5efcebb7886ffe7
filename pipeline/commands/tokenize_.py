"""The command `tokenize`."""

from collections.abc import Mapping
from typing import Any

from ..beam.loading import load_beam_meanwhile
from ..job.places import refuse_inside_sources, require_space
from ..tokens.cores import encode_on_cores
from ..tokens.job import tokenize
from .invocation import Invocation, planned, show_estimate
from .summary import store_tables

__all__ = ["run_tokenize"]


def run_tokenize(flags: Mapping[str, Any]) -> None:
    """Tokenizes corpora."""
    call = Invocation(flags)
    config, settings = call.tokenize_config(), call.run_settings()
    if call.print_config(config):
        return
    store = call.out
    settings.refuse_unreachable([*(s.pattern for s in config.sources), store.url])
    refuse_inside_sources(config.sources, [store])
    if any(s.is_mixed for s in config.sources):
        call.console.say("epochs and shares take effect in packing: exactcpt pack --epochs NAME=X")
    load_beam_meanwhile(whole=not settings.is_embedded)
    plan = planned(call, config)
    encode_on_cores(settings.threads, len(plan.tokenizer.json), plan.text_bytes)
    found, probes = show_estimate(call, plan, None)
    if flags["dry_run"]:
        return
    require_space({store: found.store_bytes})
    finished = tokenize(
        plan,
        store,
        settings,
        call.console,
        overwrite=flags["overwrite"],
        probes=probes,
        expected=found.all_tokens,
    )
    call.report(finished, store, store_tables(finished.manifest))
