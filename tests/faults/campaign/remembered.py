"""What Beam works out many times in every run, worked out once: half of the time of a small run.

Signatures of functions and defaults of options follow from the arguments alone.
"""

import copy
from collections.abc import Callable
from types import MethodType
from typing import Any

__all__ = ["remember"]


def remember() -> None:
    """Changes Beam in this process, before a run."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.transforms import core, ptransform
    from apache_beam.typehints import decorators

    signature = _signature_once(decorators.get_signature)
    for module in (core, decorators, ptransform):
        module.__dict__["get_signature"] = signature
    PipelineOptions.__init__ = _options_once(PipelineOptions.__init__)


def _signature_once(get_signature: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[tuple[object, bool], Any] = {}

    def remembered(function: Any) -> Any:
        bound = isinstance(function, MethodType)
        key = (function.__func__ if bound else function, bound)
        try:
            if key not in known:
                known[key] = get_signature(function)
        except TypeError:  # it has no hash
            return get_signature(function)
        return known[key]

    return remembered


def _options_once(make: Callable[..., None]) -> Callable[..., None]:
    known: dict[tuple[type, tuple[str, ...]], Any] = {}

    def remembered(self: Any, flags: Any = None, **options: Any) -> None:
        if flags is None or isinstance(flags, str) or options:
            make(self, flags, **options)
            return
        key = (type(self), tuple(flags))
        if key not in known:
            make(self, flags)
            known[key] = copy.deepcopy((self._visible_options, self._all_options))
            return
        visible, every = copy.deepcopy(known[key])
        self.__dict__.update(_flags=flags, _visible_options=visible, _all_options=every)

    return remembered
