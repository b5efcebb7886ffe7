import copy
import pickle

import pytest

from exactcpt.schemas import errors
from exactcpt.schemas.errors import (
    BackendDifferenceError,
    ExactcptError,
    FormatError,
    IncompleteError,
    UsageError,
)

KINDS = [
    kind
    for kind in (getattr(errors, name) for name in errors.__all__)
    if issubclass(kind, ExactcptError)
]
every_kind = pytest.mark.parametrize("kind", KINDS)

DETAILS = {
    "expected": "xxh3-128 of 0f3c",
    "where": "train/shard-00000.arrow",
    "fix": "copy it again",
    "machine": "worker-7",
}


def test_str_is_a_few_labelled_lines():
    error = ExactcptError("the file has changed", **DETAILS)
    assert str(error) == (
        "the file has changed\n"
        "  where:    train/shard-00000.arrow\n"
        "  machine:  worker-7\n"
        "  expected: xxh3-128 of 0f3c\n"
        "  fix:      copy it again"
    )


def test_str_leaves_out_what_is_not_known():
    assert str(ExactcptError("no space")) == "no space"
    assert str(ExactcptError("no space", fix="free 3 GB")) == "no space\n  fix:      free 3 GB"


@every_kind
@pytest.mark.parametrize("details", [DETAILS, {"where": "books"}, {}])
@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy]
    + [
        lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ],
)
def test_errors_travel_between_processes(kind, details, again):
    error = kind("the file has changed", **details)
    arrived = again(error)
    assert type(arrived) is kind
    assert str(arrived) == str(error)
    assert arrived.args == error.args
    assert vars(arrived) == vars(error)


@every_kind
def test_details_have_names(kind):
    error = kind("the file has changed", **DETAILS)
    assert error.found == "the file has changed"
    assert {name: getattr(error, name) for name in DETAILS} == DETAILS
    with pytest.raises(TypeError):
        kind("the file has changed", "xxh3-128 of 0f3c")


def test_exit_codes():
    assert {kind: kind.exit_code for kind in KINDS} == {
        ExactcptError: 1,
        FormatError: 1,
        IncompleteError: 1,
        UsageError: 2,
    }


def test_a_difference_of_backends_is_for_the_job_not_for_a_person():
    assert set(errors.__all__) == {kind.__name__ for kind in KINDS} | {"BackendDifferenceError"}
    error = BackendDifferenceError("'naïve'")
    arrived = pickle.loads(pickle.dumps(error))
    assert (type(arrived), arrived.args) == (BackendDifferenceError, error.args)


def test_every_subclass_is_public():
    subclasses = {
        kind for kind in ExactcptError.__subclasses__() if kind.__module__ == errors.__name__
    }
    assert {ExactcptError, *subclasses} == set(KINDS)
