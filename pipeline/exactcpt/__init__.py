"""Loss weights by effective context, for packed training windows: the Python API.

    h = exactcpt.histogram(lengths_of_windows, window=L)        targets by effective context
    t = exactcpt.weight_table(h, window=L, tau=L // 4)          one weight per bucket
    w = exactcpt.weights(table=t, seq_lengths=lengths)          one weight per token
    windows = exactcpt.open_shards("shards")                    the windows of a shard set
    exactcpt.write_shards("shards", pairs, tokenizer=...)       a shard set of your windows

What a name needs is imported when it is used: NumPy for the first three, PyTorch only for tensors,
and Beam for `write_shards` alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exactcpt.pipeline.api.contexts import effective_context, weights
    from exactcpt.pipeline.api.counting import histogram, weight_table
    from exactcpt.pipeline.api.shards import Window, Windows, open_shards
    from exactcpt.pipeline.core.exact import BucketWeight, WeightTable
    from exactcpt.pipeline.weigh.memory import write_shards
    from exactcpt.schemas.errors import ExactcptError

    __version__: str

__all__ = [
    "BucketWeight",
    "ExactcptError",
    "WeightTable",
    "Window",
    "Windows",
    "__version__",
    "effective_context",
    "histogram",
    "open_shards",
    "weight_table",
    "weights",
    "write_shards",
]

HOMES = {
    "BucketWeight": "pipeline.core.exact",
    "ExactcptError": "schemas.errors",
    "WeightTable": "pipeline.core.exact",
    "Window": "pipeline.api.shards",
    "Windows": "pipeline.api.shards",
    "effective_context": "pipeline.api.contexts",
    "histogram": "pipeline.api.counting",
    "open_shards": "pipeline.api.shards",
    "weight_table": "pipeline.api.counting",
    "weights": "pipeline.api.contexts",
    "write_shards": "pipeline.weigh.memory",
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        found: Any = version("exactcpt")
    elif name in HOMES:
        found = getattr(import_module(f"exactcpt.{HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'exactcpt' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
