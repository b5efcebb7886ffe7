"""Text that a terminal shows instead of obeying it.

Names of files, ids of documents and texts of errors come from other people's files. A terminal
obeys control characters in them: they can rewrite what is on the screen, retitle the window, or
turn the direction of a line, so that a name reads as another.
"""

import re
import unicodedata
from functools import lru_cache

__all__ = ["escaped_json", "escaped_toml", "printable", "printable_character"]

JOINERS = "\u200c\u200d"
"""Zero-width (non-)joiners belong to the spelling of Persian and of emoji."""
OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of control, format and half characters, and separators of lines."""
OTHERS = re.compile("[^\n\t -~]")


def printable(text: str) -> str:
    """A text with names for all characters that a terminal obeys or hides, but newline and tab."""
    return OTHERS.sub(lambda found: printable_character(found[0]), text)


def escaped_json(text: str) -> str:
    """A JSON text in which such characters are escapes; its values are the same.

    JSON allows them only inside of strings.
    """
    return OTHERS.sub(lambda found: _in_json(found[0]), text)


def escaped_toml(text: str) -> str:
    """A TOML text in which such characters are escapes, with the same values.

    They are in strings with escapes, the only kind that `tomli_w` writes.
    """
    return OTHERS.sub(lambda found: _in_toml(found[0]), text)


@lru_cache(maxsize=1 << 14)
def printable_character(character: str) -> str:
    """A character, or a name for one that a terminal would obey or hide."""
    if not _is_obeyed(character):
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"<U+{code:04X}>"


def _in_toml(character: str) -> str:
    return f"\\U{ord(character):08X}" if _is_obeyed(character) else character


def _in_json(character: str) -> str:
    if not _is_obeyed(character):
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    pairs = (units[i : i + 2] for i in range(0, len(units), 2))
    return "".join(f"\\u{int.from_bytes(pair):04x}" for pair in pairs)


def _is_obeyed(character: str) -> bool:
    if character in "\n\t" or character in JOINERS:
        return False
    return unicodedata.category(character) in OBEYED
