"""Each number of a manifest that a reader relies on is compared with another."""

from pathlib import Path
from typing import Any

import pytest
from handmade import read_manifest
from tiny import shard_set

from exactcpt.schemas.consistency import check_consistency
from exactcpt.schemas.errors import FormatError


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return shard_set(tmp_path_factory.mktemp("consistency") / "shards")


def test_a_good_manifest(made):
    check_consistency(read_manifest(made), "m")


EDITS: dict[str, Any] = {
    "a weight table of 3 buckets": lambda m: m["weights"]["table"].pop(),
    "a histogram of train of 5 buckets": lambda m: m["splits"]["train"]["histogram"].append(0),
    "given weights of 1 bucket": lambda m: m["settings"].update(table=[1.0]),
    "a bucket 7 with contexts 0 to 7": lambda m: m["weights"]["table"][0].update(bucket=7),
    "a bucket 1 with contexts 9 to 15": lambda m: m["weights"]["table"][1].update(low=9),
    "a bucket 1 with contexts 8 to 99": lambda m: m["weights"]["table"][1].update(high=99),
    "a weight table with 0 targets in bucket 2": (
        lambda m: m["weights"]["table"][2].update(targets=0)
    ),
    "the weight 1e-60 in bucket 2": lambda m: m["weights"]["table"][2].update(weight=1e-60),
    "0 windows in train": lambda m: m["splits"]["train"].update(windows=0),
    "0 windows in validation": lambda m: m["splits"]["validation"].update(windows=0),
    "1 targets in train": lambda m: m["splits"]["train"].update(targets=1),
    "2 tokens in train": lambda m: m["splits"]["train"].update(tokens=2),
    "a histogram of train that is not the sum": (
        lambda m: m["sources"][1]["splits"]["train"]["histogram"].__setitem__(0, 1)
    ),
    "in 64 bytes": lambda m: m["shards"]["train"][0].update(bytes=64),
}


@pytest.mark.parametrize("says", EDITS)
def test_a_contradiction(made, says):
    manifest = read_manifest(made)
    EDITS[says](manifest)
    with pytest.raises(FormatError, match="the manifest has") as caught:
        check_consistency(manifest, "m")
    assert says in caught.value.found
    assert (caught.value.where, bool(caught.value.expected)) == ("m", True)
