"""Names and values that no model knows: made of syllables and digits, drawn one by one."""

from collections.abc import Mapping

from .draws import Draws

__all__ = ["CATEGORIES", "constant", "kind", "number", "person", "town", "word"]

ONSETS = (
    "b", "br", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kl", "kr", "l", "m", "n",
    "p", "pl", "pr", "r", "s", "sk", "sl", "st", "t", "tr", "v", "vr", "w", "z",
)  # fmt: skip
VOWELS = ("a", "e", "i", "o", "u", "ai", "ei", "ou")
CODAS = ("b", "d", "g", "k", "l", "m", "n", "nd", "r", "rk", "rn", "s", "sk", "st", "t", "x")
TOWN_ENDINGS = ("burg", "dale", "ford", "ham", "holm", "mere", "stead", "ton", "wick", "worth")

CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "a musical instrument": ("banjo", "cello", "flute", "trumpet", "violin"),
    "a vehicle": ("bicycle", "motorcycle", "tractor", "truck", "van"),
    "an animal": ("donkey", "goat", "horse", "parrot", "rabbit"),
    "a piece of furniture": ("armchair", "bookcase", "sofa", "stool", "wardrobe"),
    "a tool": ("chisel", "drill", "hammer", "saw", "wrench"),
    "a piece of clothing": ("cap", "coat", "jacket", "scarf", "shirt"),
}
"""What somebody may have -> kinds of it. No name of a category contains one of a kind."""


def person(draws: Draws) -> str:
    """A person's name, such as Drouvast."""
    return (_syllable(draws) + _syllable(draws) + draws.choice(CODAS)).capitalize()


def town(draws: Draws) -> str:
    """A town's name, such as Kleimowick."""
    return (_syllable(draws) + _syllable(draws) + draws.choice(TOWN_ENDINGS)).capitalize()


def number(draws: Draws) -> str:
    """A number of four digits."""
    return str(1000 + draws.below(9000))


def word(draws: Draws) -> str:
    """A word that is none, such as skeribu."""
    return "".join(_syllable(draws) for _ in range(3))


def constant(draws: Draws) -> str:
    """The name of a constant, such as PLOUBA_STEI."""
    return f"{_syllable(draws)}{_syllable(draws)}_{_syllable(draws)}".upper()


def kind(draws: Draws) -> str:
    """A kind of thing from `CATEGORIES`, such as banjo."""
    return draws.choice(draws.choice(list(CATEGORIES.values())))


def _syllable(draws: Draws) -> str:
    return draws.choice(ONSETS) + draws.choice(VOWELS)
