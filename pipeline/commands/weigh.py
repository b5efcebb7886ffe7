"""The command `weigh`."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from ...schemas.errors import UsageError
from ..beam.loading import load_beam_meanwhile
from ..config import SourceConfig, TokenizeConfig, parse_source
from ..core.parameters import PARAMETERS
from ..job.places import refuse_inside_sources
from ..weigh.job import weigh
from ..weigh.plan import WeighPlan, plan_weigh
from .invocation import Invocation, no_tokenizer
from .summary import shard_tables

__all__ = ["packed_plan", "run_weigh"]

SPLIT_BYTES = 256 << 20
"""Of input per work unit: about one shard."""
WEIGHTING = (*PARAMETERS, "shard_bytes")


def run_weigh(flags: Mapping[str, Any]) -> None:
    """Writes packed windows as a shard set."""
    words: Sequence[str] = flags["words"]
    sources = list(takewhile(lambda word: not word.startswith("-"), words))
    call = Invocation({**flags, "beam_args": tuple(words[len(sources) :])})
    settings, out = call.run_settings(), call.out
    load_beam_meanwhile(whole=not settings.is_embedded)
    plan = packed_plan(flags, sources)
    config = plan.tokens.config
    settings.refuse_unreachable([*(source.pattern for source in config.sources), out.url])
    refuse_inside_sources(config.sources, [out])
    finished = weigh(plan, out, settings, call.console, overwrite=flags["overwrite"])
    call.report(finished, out, shard_tables(finished.manifest))


def packed_plan(flags: Mapping[str, Any], texts: Sequence[str]) -> WeighPlan:
    """The plan for packed windows.

    Args:
        flags: of the command.
        texts: the sources, [NAME=]PATTERN[,OPTION=X]...

    Raises:
        UsageError: there is no source or no tokenizer, or a value is out of its range.
    """
    if not texts:
        raise UsageError(
            "there are no windows to weigh", expected="SOURCE, such as 'packed/*.parquet'"
        )
    if not flags["tokenizer"]:
        raise no_tokenizer()
    validation = [_source(text) for text in flags["validation"]]
    given = {name: flags[name] for name in WEIGHTING if flags.get(name) is not None}
    fixed = {
        name: flags[name] for name in ("eos_token", "max_record_bytes") if flags[name] is not None
    }
    size = {"split_bytes": given["shard_bytes"]} if "shard_bytes" in given else {}
    config = TokenizeConfig(
        sources=(*map(_source, texts), *validation),
        tokenizer=flags["tokenizer"],
        **{"split_bytes": SPLIT_BYTES, **size, **fixed},
    )
    return plan_weigh(
        config,
        boundaries=flags["boundaries"],
        window=flags["window"],
        weighting=given,
        validation=[source.name for source in validation],
        fill_id=flags["pad_id"],
    )


def _source(text: str) -> SourceConfig:
    source = parse_source(text)
    if source.is_mixed:
        raise UsageError(
            f"source {source.name!r} says how often it is seen",
            expected="every packed window once",
            fix="leave out epochs and share",
        )
    return source
