"""What the publisher of a data set says."""

import re
from dataclasses import dataclass

from ...schemas.errors import UsageError
from ..core.choices import PublishedFormat
from .markdown import one_line

__all__ = ["PublishConfig"]

SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
MOST_OF_A_TITLE = 200


@dataclass(frozen=True, kw_only=True)
class PublishConfig:
    """The settings of the job `publish`.

    Attributes:
        format: of the windows.
        title: of the card; None for one that names the sources.
        license: SPDX identifier; None if nobody has stated it.

    Raises:
        UsageError: the title is not one line, or the licence is no identifier.
    """

    format: PublishedFormat = "parquet"
    title: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        if self.title is not None and not _is_title(self.title):
            raise UsageError(
                "--title is not a title",
                expected=f"one line of text, of 1 to {MOST_OF_A_TITLE} characters",
            )
        if self.license is not None and not SPDX.fullmatch(self.license):
            raise UsageError(
                f"--license is {self.license!r}",
                expected="one SPDX identifier, such as CC-BY-4.0 or Apache-2.0: spdx.org/licenses",
            )


def _is_title(text: str) -> bool:
    return text == one_line(text) and bool(text.strip()) and len(text) <= MOST_OF_A_TITLE
