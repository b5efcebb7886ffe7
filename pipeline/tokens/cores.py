"""On how many cores of this process gigatoken encodes, and with how many objects.

It can encode a batch on all cores, for one thread at a time, or on the core of the thread that
calls it. A short job loads one object, which all threads share. In a long one each thread loads an
object of its own: nobody waits for the last document in another thread's batch.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

__all__ = ["CORES", "encode_on_cores", "shares_one_object", "uses_several", "work_unit"]

CORES = "RAYON_NUM_THREADS"
"""How many cores gigatoken encodes on; it reads the variable when it first encodes on several."""
LOADING_PAYS = 64
"""Bytes of text per byte of tokenizer.json, times n (n - 1), from which it pays that each of n
threads loads an object. They load one after the other, at 10 MB of tokenizer.json per second. One
thread reads and encodes 45 MB of text per second, and a fourteenth more with its own object."""

_own_objects: int | None = None
"""How many threads encode, if each has an object of its own; None if all share one."""
_units = 0
_counting = Lock()


def encode_on_cores(threads: int, tokenizer_bytes: int = 0, text_bytes: int = 0) -> None:
    """Lets gigatoken encode on several cores of this process, unless the environment says how many.

    Otherwise it encodes on the core of its caller: there may be as many processes as cores. To be
    called before anything is encoded.

    Args:
        threads: how many encode at the same time, and how many cores they have together.
        tokenizer_bytes: the size of tokenizer.json.
        text_bytes: what is to be encoded; if it is large enough, each thread loads an object.
    """
    global _own_objects
    os.environ.setdefault(CORES, str(threads))
    pays = text_bytes > LOADING_PAYS * tokenizer_bytes * threads * (threads - 1)
    _own_objects = threads if pays else None


@contextmanager
def work_unit() -> Iterator[None]:
    """Counts the work units that are being done; where they are few, each uses several cores.

    They are few at the end of a job, and where a corpus is a few files that cannot be split.
    """
    global _units
    with _counting:
        _units += 1
    try:
        yield
    finally:
        with _counting:
            _units -= 1


def shares_one_object() -> bool:
    """Whether a thread waits for the object that others use, and loads none."""
    return _has_several() and _own_objects is None


def uses_several() -> bool:
    """Whether a batch is encoded on several cores.

    Where every thread has an object and a unit, it is not: when such threads helped one another,
    encoding took longer.
    """
    return _has_several() and (_own_objects is None or _units < _own_objects)


def _has_several() -> bool:
    return os.environ.get(CORES, "1") != "1"
