"""The items of `latent` of every length, from what an evaluation reads."""

from collections.abc import Callable, Iterator

from ....schemas.errors import UsageError
from ..draws import Draws
from ..inputs import Inputs
from ..ruler.drafts import Page
from ..ruler.items import RulerItem, item_of
from ..ruler.prose import Prose, prose_of
from ..ruler.sets import RulerSet, check_writes, item_set
from .needles import BUDGET, MAKERS

__all__ = ["latent_sets"]

VERSION = 1


def latent_sets(inputs: Inputs, say: Callable[[str], None]) -> list[RulerSet]:
    """Makes the items of every length.

    Args:
        inputs: what they are made from.
        say: takes a line for a person.

    Raises:
        UsageError: the tokenizer has too few tokens, the haystack is too small, or a length has no
            room for an item.
    """
    check_writes(inputs.vocabulary)
    prose = prose_of(inputs.haystack, inputs.vocabulary)
    prose.check_holds(max(inputs.lengths))
    return [
        item_set("latent", VERSION, inputs, length, tuple(_items(inputs, length, prose)), say)
        for length in inputs.lengths
    ]


def _items(inputs: Inputs, length: int, prose: Prose) -> Iterator[RulerItem]:
    """Yields the items of one length, by task and number; each is drawn with a key of its own."""
    config = inputs.config
    page = Page(
        encode=inputs.vocabulary.piece,
        bos=inputs.haystack.bos,
        length=length,
        budget=BUDGET,
        prose=prose,
    )
    for task in config.tasks["latent"]:
        for number in range(config.count):
            draft = MAKERS[task](page, Draws(config.seed, f"latent {task}", length, number))
            if draft is None:
                raise UsageError(
                    f"no item of the task {task} fits into {length:,} tokens, of which {BUDGET} "
                    "are for the answer",
                    fix=f"give longer --lengths, or --tasks without {task}",
                )
            yield item_of(task, number, draft, page)
