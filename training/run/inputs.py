"""The inputs of a run: shards, eval sets, weights of targets, the model; all checked here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...schemas import shard
from ...schemas.errors import UsageError
from ...schemas.regular import read_regular
from ...schemas.shard_set import ShardSet, open_set
from ...schemas.shard_windows import ShardWindows
from ...schemas.weights import parse_table
from ..config import TrainConfig
from ..models.attention import check_head_size
from ..models.folder import CONFIG, head_size, read_config
from ..models.model import TrainModel, build
from ..models.weight_files import check_weights
from ..windows.agreement import check_agreement, end_token_of
from ..windows.batches import ShardDataset
from ..windows.mixing import Mix, MixedWindows, check_fits, check_weights_agree, mixed_set
from ..windows.weighting import make_weighting
from .checked import read_through
from .evaluation import EvalSet, open_eval_sets
from .world import World

__all__ = ["Inputs", "attention_for", "build_model", "mixed", "open_inputs"]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of a run, opened and checked.

    Attributes:
        shards: the shard set to train on; of a mix, what all of its sets are together.
        windows: its training windows, with the weights of the run.
        mix: the order of a mix of sets; None for one set.
        sets: the sets that are trained on: one, or those of the mix.
        eval_sets: the sets to evaluate on.
        checked: marks of the shard sets whose checksums were compared, now or at an earlier
            start.
        identity: the part of the run's identity that its inputs determine.
    """

    shards: ShardSet
    windows: ShardDataset
    mix: Mix | None
    sets: Sequence[ShardSet]
    eval_sets: list[EvalSet]
    checked: list[str]
    identity: dict[str, Any]

    @property
    def tail(self) -> list[bool]:
        """Whether each bucket is in the tail."""
        return [row["in_tail"] for row in self.shards.buckets]

    @cached_property
    def end_token(self) -> str | None:
        """The token that ends every document; None if the vocabulary does not have it."""
        return end_token_of(self.shards)

    @property
    def longest_window(self) -> int:
        """Length of the longest window, in training or evaluation, in tokens."""
        return max([self.shards.window, *(eval_set.windows.window for eval_set in self.eval_sets)])


def open_inputs(
    config: TrainConfig, world: World, say: Callable[[str], None] | None = None
) -> Inputs:
    """Opens and checks everything a run reads, except the model's weights.

    Args:
        config: the settings of the run.
        world: its ranks.
        say: is told what is copied from a server; on any rank.

    Raises:
        UsageError, IncompleteError, FormatError: something is missing, altered, or does not fit
            together.
    """
    config.check_world(world.size)
    model = Path(config.model)
    size = head_size(read_config(model))
    check_head_size(attention_for(config, world.device.type), size, where=str(model / CONFIG))
    check_weights(model)
    sets = [open_set(path, say) for path in config.mix or (config.shards,)]
    for each in sets:
        check_agreement(each, model)
    eval_sets = open_eval_sets(config, sets[0], say)
    others = {each.windows.shards.fingerprint: each.windows.shards for each in eval_sets}
    for each in sets:
        others.pop(each.fingerprint, None)
    for other in others.values():
        check_agreement(other, model)
    shards, mix, windows = mixed(config, sets)
    table = _weight_table(config, shards.window)
    weighting = make_weighting(config.weighting, shards, seed=config.seed, table=table)
    unread, checked = read_through(config, [*sets, *others.values()])
    for each in unread:
        each.check_contents(world.rank, world.size)
        if world.is_first and each in sets:
            each.check_counts()
    return Inputs(
        shards=shards,
        windows=ShardDataset(shards, split=shard.TRAIN, weighting=weighting, windows=windows),
        mix=mix,
        sets=sets,
        eval_sets=eval_sets,
        checked=checked,
        identity={
            "shards": shards.fingerprint,
            "seed": config.seed,
            "weighting": config.weighting,
            "weight_table": table,
            "denominator": config.denominator,
            "rope_theta": config.rope_theta,
            "yarn_factor": config.yarn_factor,
            **({} if mix is None else {"mix": _identity(sets, mix)}),
        },
    )


def mixed(
    config: TrainConfig, sets: Sequence[ShardSet]
) -> tuple[ShardSet, Mix | None, MixedWindows | None]:
    """What several sets are together, the order of their windows, and the windows.

    Raises:
        UsageError: windows, tokenizers or weights differ.
    """
    if config.mix is None:
        return sets[0], None, None
    check_fits(sets)
    if config.weighting != "uniform" and config.weight_table is None:
        check_weights_agree(sets)
    sizes = tuple(len(ShardWindows(each, shard.TRAIN)) for each in sets)
    mix = Mix(shares=config.shares, sizes=sizes, seed=config.seed)
    return mixed_set(sets, config.shares), mix, MixedWindows(sets)


def _identity(sets: Sequence[ShardSet], mix: Mix) -> list[list[str]]:
    return [
        [each.fingerprint, str(float(share))] for each, share in zip(sets, mix.shares, strict=True)
    ]


def _weight_table(config: TrainConfig, window: int) -> list[float] | None:
    if config.weight_table is None:
        return None
    try:
        data = read_regular(Path(config.weight_table))
    except OSError as error:
        raise UsageError(
            f"cannot read the weight table: {error.strerror}", where=config.weight_table
        ) from None
    return parse_table(data, config.weight_table, window)


def build_model(
    config: TrainConfig, inputs: Inputs, world: World, *, empty: bool = False
) -> TrainModel:
    """Builds the model in the precision of the run, on the host; `empty`: see `model.build`.

    Raises:
        UsageError, FormatError: as `attention_for` and `model.build`.
    """
    model = build(
        Path(config.model),
        window=inputs.longest_window,
        backend=attention_for(config, world.device.type),
        rope_theta=config.rope_theta,
        yarn_factor=config.yarn_factor,
        empty=empty,
    )
    return model.double() if config.precision == "fp64" else model


def attention_for(config: TrainConfig, device: str) -> str:
    """The attention backend of a run: the one that is asked for, or the fastest one.

    Raises:
        UsageError: the one that is asked for cannot train on this device in this precision, or what
            it computes cannot be kept.
    """
    can = ["exact"]
    if device == "cpu":
        can.append("cpu")
    if device == "cuda" and config.precision != "fp64":
        can.append("flex")
    if device == "cuda" and config.precision == "bf16":
        can.append("varlen")
    chosen = can[-1] if config.attention == "auto" else config.attention
    if chosen not in can:
        raise UsageError(
            f"attention {config.attention!r} cannot train on {device} in {config.precision}",
            expected=" or ".join(can),
            fix="leave --attention out",
        )
    if chosen == "flex" and config.keep_products:
        raise UsageError(
            "with attention 'flex', products cannot be kept while the rest is computed again",
            fix="leave --keep-products out",
        )
    return chosen
