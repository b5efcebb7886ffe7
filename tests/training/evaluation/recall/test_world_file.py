"""world.json: what is written is read back, and what is damaged is refused."""

import json
import shutil

import pytest

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.training.evaluation.recall.config import WorldConfig
from exactcpt.training.evaluation.recall.corpus import write_world
from exactcpt.training.evaluation.recall.world import World, draw_world
from exactcpt.training.evaluation.recall.world_file import check_tokenizer, read_world
from exactcpt.training.evaluation.vocabulary import read_vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("recall") / "world"
    write_world(out, WorldConfig(short=300, mixed=300, window=256, tau=64), lambda _: None)
    return out


@pytest.fixture
def path(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "world") / "world.json"


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_written_is_read(path):
    assert read_world(path) == (draw_world(fillers=16, keys=24, values=24, seed=0), 256)


def test_a_filler_has_four_other_successors_and_a_key_any_four():
    rows = draw_world(fillers=5, keys=3, values=10, seed=7).successors
    assert len(rows) == 5 + 3
    assert all(len({*row}) == 4 and {*row} <= {*range(5)} for row in rows)
    world = draw_world(fillers=40, keys=3, values=10, seed=7)
    assert all(filler not in row for filler, row in enumerate(world.successors))
    assert world != draw_world(fillers=40, keys=3, values=10, seed=8)


def test_ids_are_the_places_of_words():
    world = draw_world(fillers=5, keys=3, values=10, seed=0)
    assert world.words == [
        "<|endoftext|>", "f0", "f1", "f2", "f3", "f4", "k0", "k1", "k2",
        *(f"v{i}" for i in range(10)), "<unk>",
    ]  # fmt: skip
    assert world.words[world.filler(4)] == "f4"
    assert world.words[world.key(2)] == "k2"
    assert world.words[world.value(9)] == "v9"


def test_the_tokenizer_gives_the_ids(path):
    world, _ = read_world(path)
    vocabulary = read_vocabulary(path.parent / "tokenizer")
    check_tokenizer(world, vocabulary.tokenizer, vocabulary.path)
    ids = vocabulary.encode("f3 k7 v2 what v23")
    unknown = len(world.words) - 1
    assert ids == (world.filler(3), world.key(7), world.value(2), unknown, world.value(23))


def test_the_folder_is_one_of_transformers(path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent / "tokenizer")
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|endoftext|>", 0)
    assert tokenizer("f3 k7")["input_ids"] == [4, 24]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"values": 9}, "the recall world is not valid: 9 is less than the minimum of 10"),
        ({"values": 25}, "the recall world is not what was written: its digest is another one"),
        ({"successors": []}, "the recall world is not what was written: its digest is another one"),
        ({"successors": [[0, 1, 1, 2]]}, "the recall world is not valid: [0, 1, 1, 2] has"),
        ({"window": None}, "the recall world is not valid: None is not of type 'integer'"),
        ({"format": "exactcpt shard set"}, "this is not an exactcpt recall world"),
        ({"format_version": 2}, "the exactcpt recall world has format version 2"),
    ],
)
def test_a_damaged_file_is_refused(path, changes, found):
    edit(path, **changes)
    with pytest.raises(FormatError) as raised:
        read_world(path)
    assert raised.value.found.startswith(found)
    assert str(path) in raised.value.where


@pytest.mark.parametrize("rows", [6, 10])
def test_successors_that_do_not_fit_are_refused_whatever_the_digest_says(path, rows):
    """A digest can be made for any file: what would fail later is looked at too."""
    world = World(fillers=6, keys=3, values=10, successors=((1, 2, 3, 4),) * rows)
    edit(path, fillers=6, keys=3, values=10, successors=[[1, 2, 3, 4]] * rows, digest=world.digest)
    with pytest.raises(FormatError, match="not what was written"):
        read_world(path)


def test_a_successor_that_is_no_filler_is_refused(path):
    rows = ((1, 2, 3, 4),) * 8 + ((1, 2, 3, 6),)
    world = World(fillers=6, keys=3, values=10, successors=rows)
    edit(path, fillers=6, keys=3, values=10, successors=rows, digest=world.digest)
    with pytest.raises(FormatError, match="not what was written"):
        read_world(path)


def test_half_a_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FormatError, match="the recall world is not JSON"):
        read_world(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError) as raised:
        read_world(tmp_path / "world.json")
    assert raised.value.found == "the recall world cannot be read: No such file or directory"


def test_another_tokenizer_is_refused(path):
    world, _ = read_world(path)
    file = path.parent / "tokenizer" / "tokenizer.json"
    file.write_text(file.read_text().replace('"k3"', '"k33"'))
    vocabulary = read_vocabulary(file)
    with pytest.raises(FormatError) as raised:
        check_tokenizer(world, vocabulary.tokenizer, vocabulary.path)
    assert raised.value.found == "the tokenizer is not that of the recall world beside it"
    assert raised.value.where == str(file)
