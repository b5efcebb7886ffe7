"""Where the model of a run is: a folder, or the hub's cache, into which it is fetched first."""

from collections.abc import Callable
from dataclasses import replace

from ..config import TrainConfig
from ..models.named import commit_of, fetched_model
from .world import World

__all__ = ["with_model_folder"]


def with_model_folder(config: TrainConfig, world: World, say: Callable[[str], None]) -> TrainConfig:
    """The settings with the folder of the model, in place of its name on the Hugging Face hub.

    One rank asks the hub which commit the name means, and all take that one: a machine has a cache
    of its own, and a branch may change meanwhile.

    Args:
        config: the settings of the run.
        world: the ranks; all call this.
        say: takes a line for a person; called on the first rank only.

    Raises:
        UsageError, FormatError, ExactcptError, OSError: as `named.model_folder`.
    """
    name = world.first(lambda: commit_of(config.model))
    if name is None:
        return config
    if world.is_first:
        say(f"the model is {name}, from the Hugging Face hub or its cache")
    return replace(config, model=str(world.together(lambda: fetched_model(name))))
