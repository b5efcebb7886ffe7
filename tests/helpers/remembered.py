"""What libraries work out many times and slowly, worked out once.

Beam: half of the time of a small run. Signatures of functions, what a DoFn asks for and defaults of
options follow from what is asked about alone. transformers: in every process, rules for the weights
of all its models. Pictures: each process starts an engine for JavaScript. Versions of what is
installed: each time, all that a package says of itself is parsed.
"""

import copy
import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MethodType
from typing import Any

import xxhash

__all__ = [
    "options_once", "remember", "remember_pictures", "remember_rules", "remember_what_is_installed",
    "specs_once",
]  # fmt: skip

Lists = tuple[list[Any], ...]


def remember() -> None:
    """Changes Beam in this process, before a run."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.transforms import core, ptransform, userstate
    from apache_beam.typehints import decorators

    signature = _once_a_function(decorators.get_signature)
    for module in (core, decorators, ptransform):
        module.__dict__["get_signature"] = signature
    find = _copied(_once_a_function(core.get_function_args_defaults))
    core.__dict__["get_function_args_defaults"] = find
    userstate.__dict__["get_dofn_specs"] = specs_once(userstate.get_dofn_specs)
    PipelineOptions.__init__ = options_once(PipelineOptions.__init__)


def remember_rules() -> None:
    """Has transformers work out the rules for weights now; later calls give copies."""
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")


def remember_what_is_installed() -> None:
    """Looks each version up once, those that manifests and runs name now.

    Call it before the modules of the program are imported that take the function as it is.
    """
    metadata.__dict__["version"] = remembered = cache(metadata.version)
    for name in ("exactcpt", "gigatoken", "pyarrow", "tokenizers", "torch", "transformers"):
        with suppress(metadata.PackageNotFoundError):
            remembered(name)


def remember_pictures(folder: Path) -> None:
    """Lets this process and its forks draw each picture once, and keep it in a folder."""
    import vl_convert

    draw = vl_convert.vegalite_to_svg

    def remembered(spec: dict[str, Any], **options: Any) -> str:
        name = xxhash.xxh3_128_hexdigest(json.dumps([spec, options]).encode())
        kept = folder / name
        if not kept.exists():
            new = folder / f"{name}.{os.getpid()}"
            new.write_text(draw(spec, **options), "utf-8")
            new.rename(kept)  # a process may be killed at any moment
        return kept.read_text("utf-8")

    vl_convert.__dict__["vegalite_to_svg"] = remembered


def _once_a_function(find: Callable[[Any], Any]) -> Callable[[Any], Any]:
    known: dict[tuple[object, bool], Any] = {}

    def remembered(function: Any) -> Any:
        bound = isinstance(function, MethodType)
        key = (function.__func__ if bound else function, bound)
        try:
            if key not in known:
                known[key] = find(function)
        except TypeError:  # it has no hash
            return find(function)
        return known[key]

    return remembered


def _copied(find: Callable[[Any], Lists]) -> Callable[[Any], Lists]:
    """Callers own the lists that they get."""
    return lambda function: tuple([each.copy() for each in find(function)])


def specs_once(find: Callable[[Any], tuple[set[Any], ...]]) -> Callable[[Any], Any]:
    """What finds the states and timers of a DoFn, and looks at the methods of a class once.

    All methods are those of the class, but for `process`, which may stand for any function.
    """
    without: set[type] = set()

    def remembered(dofn: Any) -> tuple[set[Any], ...]:
        from apache_beam.transforms.core import _DoFnParam, get_function_arguments

        if type(dofn) in without:
            _, defaults = get_function_arguments(dofn, "process")
            if not any(isinstance(each, _DoFnParam) for each in defaults):
                return set(), set()
        found = find(dofn)
        if not any(found):
            without.add(type(dofn))
        return found

    return remembered


def options_once(make: Callable[..., None]) -> Callable[..., None]:
    """What makes options, and parses the same flags for the same options once."""
    known: dict[tuple[type, tuple[str, ...]], Any] = {}

    def remembered(self: Any, flags: Any = None, **options: Any) -> None:
        if flags is None or isinstance(flags, str) or options:
            make(self, flags, **options)
            return
        key = (type(self), tuple(flags))
        if key not in known:
            make(self, flags)
            known[key] = _own(self._visible_options), dict(self._all_options)
        visible, every = known[key]
        self.__dict__.update(
            _flags=flags, _visible_options=_own(visible), _all_options=_own_values(every)
        )

    return remembered


def _own(namespace: Any) -> Any:
    found = copy.copy(namespace)
    found.__dict__.update(_own_values(vars(namespace)))
    return found


def _own_values(values: dict[str, Any]) -> dict[str, Any]:
    """The values, with copies of those that can be changed."""
    changeable = (list, dict, set)
    return {
        name: copy.deepcopy(value) if isinstance(value, changeable) else value
        for name, value in values.items()
    }
