"""What needles, variables and lists are made of: words, numbers and codes, drawn one by one.

No word is part of another one, so an answer that has one has not the other.
"""

import string
import uuid
from collections.abc import Callable

from ....schemas.errors import UsageError
from ..draws import Draws

__all__ = ["WORDS", "code", "fresh", "letters", "number", "pair", "value", "variable"]

ADJECTIVES = """
amber ancient arid bitter blunt bold brave breezy brief bright brisk broad bronze calm candid
careful central cheap chilly civic classic clever cloudy coarse common copper cosmic costly crisp
curly daily damp dapper daring decent deep dense direct distant dizzy domestic dusty eager early
elastic elegant empty endless entire equal exact exotic faint famous fancy feeble fertile festive
final firm flat fluffy foggy foreign formal fragile frank fresh frosty frugal gentle giant gifted
glad gloomy golden grand grateful gravel greasy green grim handy happy harsh hasty heavy hidden
hollow honest humble hungry ivory jolly junior keen kind large lazy lively lonely lucky lunar magic
major marble marine mellow merry mild modern modest muddy narrow native neat nervous nimble noble
noisy oblique odd olive orange ornate oval pale patient peaceful plain pleasant polite precise
pretty prompt proud purple quaint quick quiet rapid rare ready remote rigid robust rough round royal
rural rusty sacred salty scarce senior serene severe shady shallow sharp shiny short shy silent
silver simple sincere slender slim slow smooth snowy sober solar solid sour spicy square stable
steady steep sticky strict sturdy subtle sudden sunny sweet swift tall tame tender tidy timid tiny
tough tranquil urban useful vacant vague valid vast velvet violet vital vivid warm weary wet wide
wild windy wise witty wooden young zealous
""".split()  # noqa: SIM905 (a list would take a line for each word)

NOUNS = """
acorn airport album anchor apple apron atlas attic autumn badge bakery balcony bamboo banjo barrel
basin basket beacon bench blanket blossom bottle boulder bracket branch bread brick bridge broom
bucket button cabin cactus camel camera canal candle canoe canyon captain carpet castle cathedral
cattle cello cellar chalk chapel charcoal cherry chimney cinema circus clay cliff clock clover
coffee comet compass coral cotton cousin cradle crane crater cricket crystal cupboard curtain
cushion daisy dancer desert diamond doctor dolphin donkey dragon drawer dungeon eagle echo elbow
elephant emerald engine envelope fabric falcon farmer feather fence ferry fiddle finger flamingo
flute forest fossil fountain galaxy garden garlic gazelle geyser ginger giraffe glacier glove goblet
goose granite grape guitar hammer hamster harbor harvest hedgehog helmet heron hillside hockey honey
horizon hotel iguana island jacket jaguar jewel jigsaw journal juggler jungle kayak kennel kettle
kitchen kitten ladder lagoon lantern lemon leopard library lighthouse lily lizard lobster locket
lumber magnet mammoth mango mantle maple market meadow melody meteor mirror monkey monsoon mosaic
mountain museum mushroom mustard napkin necklace nectar needle nephew notebook nutmeg oasis ocean
octopus onion orchard otter oyster paddle palace panther parade parcel parrot pasture peanut pebble
pelican pencil penguin pepper piano pigeon pillow pirate planet plateau pocket poet pond porcupine
potato powder prairie puddle pumpkin puppet puzzle pyramid quarry quilt rabbit raccoon radish raven
ribbon river robin rocket saddle sailor salmon sandal sapphire satchel saucer scarf schooner scooter
sculptor seagull sheriff shovel sparrow spider spinach spoon squirrel statue stove strawberry stream
suitcase sunset swallow syrup tailor teacher teapot temple tennis thimble thunder ticket tiger toast
tomato torch tractor trumpet tulip tunnel turtle umbrella uncle unicorn valley vanilla village
vinegar violin volcano vulture waffle wagon walnut walrus warbler waterfall weasel whistle widow
willow window wizard wolf wrench yacht yogurt zebra zipper
""".split()  # noqa: SIM905 (a list would take a line for each word)

WORDS = (*ADJECTIVES, *NOUNS)

TRIES = 1000
"""Draws of a name that is not taken before the names are said to be too few."""


def pair(draws: Draws) -> str:
    """An adjective and a noun, such as quiet-lantern."""
    return f"{draws.choice(ADJECTIVES)}-{draws.choice(NOUNS)}"


def number(draws: Draws) -> str:
    """A number of seven digits."""
    return str(1_000_000 + draws.below(9_000_000))


def code(draws: Draws) -> str:
    """A UUID of random bits (version 4)."""
    return str(uuid.UUID(int=draws.below(1 << 64) << 64 | draws.below(1 << 64), version=4))


def value(draws: Draws) -> str:
    """A number of five digits."""
    return str(10_000 + draws.below(90_000))


def variable(draws: Draws) -> str:
    """Five capital letters."""
    return "".join(draws.choice(string.ascii_uppercase) for _ in range(5))


def letters(draws: Draws) -> str:
    """Six small letters."""
    return "".join(draws.choice(string.ascii_lowercase) for _ in range(6))


def fresh(draw: Callable[[Draws], str], draws: Draws, taken: set[str]) -> str:
    """A name that is not taken; it is from then on.

    Raises:
        UsageError: almost all names are taken.
    """
    for _ in range(TRIES):
        name = draw(draws)
        if name not in taken:
            taken.add(name)
            return name
    raise UsageError(
        f"a prompt with more than {len(taken):,} names cannot be made: there are no more names",
        fix="give shorter --lengths, or choose other --tasks",
    )
