"""The commands that prepare something, as the program itself reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Making"]


@dataclass(frozen=True, kw_only=True)
class Making:
    """A command that prepares something.

    Attributes:
        makes: what it makes, or helps to make.
        command: its name.
        parameters: by their names; None for those that are not given and have no default.
    """

    makes: str
    command: str
    parameters: Mapping[str, Any]
