"""The sizes of a Llama model, most of which follow from its width.

With d the width, and what the sizes are unless they are given:

    layers        d / 64, at least 2: the proportions of GPT-2's smallest model
    heads         d / 64, at least 4
    kv_heads      heads
    intermediate  8 d / 3, up to the next multiple of 64: Llama's feed-forward layer has three
                  matrices and the parameters of two with 4 d
"""

from dataclasses import dataclass, fields
from typing import Any

from ...schemas.errors import UsageError
from ...schemas.settings import check_range

__all__ = ["SIZES", "Shape"]

HEAD = 64
"""Width of a head in most models, and of a layer's share of the width."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a Llama model; None for what follows from the width.

    Attributes:
        hidden: width of the residual stream.
        layers: number of blocks.
        heads: attention heads of a block.
        kv_heads: heads of keys and values, each shared by as many heads.
        intermediate: width inside of the feed-forward layers.
        positions: the longest window, in tokens. Rotary embeddings cost nothing.
    """

    hidden: int = 256
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    intermediate: int | None = None
    positions: int = 32_768

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            check_range(name, getattr(self, name), low, high)
        config = self.config()
        heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
        if self.hidden % heads or self.hidden // heads % 2:
            raise UsageError(
                f"hidden is {self.hidden:,} with {heads:,} heads",
                expected="a hidden that is heads times an even number",
                fix="give another --hidden, or --heads",
            )
        if heads % groups:
            raise UsageError(
                f"kv_heads is {groups:,} with {heads:,} heads",
                expected="heads that are a multiple of kv_heads",
            )

    def config(self) -> dict[str, Any]:
        """The sizes by their names in a config.json of Hugging Face."""
        heads = self.heads or max(4, self.hidden // HEAD)
        return {
            "model_type": "llama",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers or max(2, self.hidden // HEAD),
            "num_attention_heads": heads,
            "num_key_value_heads": self.kv_heads or heads,
            "intermediate_size": self.intermediate or -(-8 * self.hidden // (3 * 64)) * 64,
            "max_position_embeddings": self.positions,
        }


RANGES = {
    "hidden": (8, 1 << 16),
    "layers": (1, 1000),
    "heads": (1, 1 << 12),
    "kv_heads": (1, 1 << 12),
    "intermediate": (1, 1 << 20),
    "positions": (2, 1 << 30),
}
"""Smallest and largest value of each size."""

SIZES = tuple(field.name for field in fields(Shape))
"""Names of the sizes, as in `Shape`."""
