"""The settings of a recall world and its corpora, checked when they are made."""

from dataclasses import dataclass

from ....schemas.settings import Size, check_range

__all__ = ["WorldConfig"]


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """The settings of a world and its corpora.

    Attributes:
        fillers, keys, values: how many tokens of each kind the language has.
        window: tokens of the longest documents.
        tau: tokens of the longest short documents; the smallest effective context of the tail.
        short: tokens of the corpus of short documents.
        mixed: tokens of the corpus that has long ones too.
        long_share: share of its documents that are long.
        seed: of the language and of the documents.
    """

    fillers: int = 16
    keys: int = 24
    values: int = 24
    window: int = 512
    tau: int = 128
    short: Size = 4_000_000
    mixed: Size = 2_000_000
    long_share: float = 0.03
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("short", self.short, 1, 1 << 40)
        check_range("mixed", self.mixed, 1, 1 << 40)
        check_range("seed", self.seed, 0, (1 << 64) - 1)
