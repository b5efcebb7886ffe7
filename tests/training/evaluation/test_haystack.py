"""The haystack is the validation documents, whole, without what tokenization added."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from evaluations import haystack, vocabulary
from handmade import EOS, Corpus, Document, edit_manifest, edit_shard, write_shards, write_store
from tiny import corpus, shard_set
from tokenizers.processors import TemplateProcessing

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.schemas.shard_set import open_set
from exactcpt.training.evaluation.draws import Draws
from exactcpt.training.evaluation.haystack import of_file, of_shards, stream_of

GAP = (5, 6)


@dataclass
class Known:
    """A vocabulary of two words."""

    def piece(self, text):
        assert text == "\n\n"
        return GAP


def handmade(folder, packed):
    write_store(folder / "store", packed)
    write_shards(folder / "shards", packed, folder / "store")
    return folder / "shards"


def joined(documents):
    """One document after the other, with the gap between them."""
    ids = [token for document in documents for token in (*document, *GAP)]
    return ids[: -len(GAP)]


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_the_documents_are_joined(tmp_path, packing):
    """Some are cut across windows, which are in any order."""
    packed = corpus(times=3, packing=packing)
    numbered = [(n, d) for n, d in enumerate(packed.documents) if d.split == "validation"]
    found = of_shards(open_set(handmade(tmp_path, packed)), Known())
    assert found.ids.tolist() == joined(d.tokens(n)[:-1] for n, d in numbered)
    assert found.bos == ()


def test_the_first_token_of_every_document_is_taken_off_and_kept(tmp_path):
    packed = Corpus([("a", [Document(30), Document(200, split="validation")])])
    shards = handmade(tmp_path, packed)
    first = packed.documents[1].tokens(1)[0]
    edit_manifest(shards, lambda manifest: manifest["tokenizer"].update(bos_id=first))
    found = of_shards(open_set(shards), Known())
    assert found.ids.tolist() == packed.documents[1].tokens(1)[1:-1]
    assert EOS not in found.ids
    assert found.bos == (first,)


def test_documents_that_do_not_join(tmp_path):
    shards = shard_set(tmp_path / "shards")

    def shift(columns):
        columns["doc_offset"] = [[o + (o > 0) for o in row] for row in columns["doc_offset"]]

    edit_shard(shards, "validation/shard-00000-of-00001.arrow", shift)
    with pytest.raises(FormatError, match=r"the segments of document \d+ do not join"):
        of_shards(open_set(shards), Known())


def test_a_set_without_validation_documents(tmp_path):
    shards = handmade(tmp_path, Corpus([("a", [Document(300)])]))
    with pytest.raises(UsageError, match="the shard set has no validation documents"):
        of_shards(open_set(shards), Known())


def test_the_digest_is_of_the_text(tmp_path):
    def digest(ids, bos=()):
        return stream_of("", [np.array(ids, np.int32)], GAP, bos).digest

    assert digest([1, 2]) == digest([1, 2])
    assert len({digest([1, 2]), digest([2, 1]), digest([1, 2], bos=(1,))}) == 3


def test_filler_is_consecutive_text():
    hay = haystack(1000)
    for number in range(20):
        filler = hay.filler(Draws(0, "filler", number), 300)
        starts = [i for i in range(701) if np.array_equal(hay.ids[i : i + 300], filler)]
        assert starts
    whole = hay.filler(Draws(0, "filler"), 1000)
    assert np.array_equal(whole, hay.ids)


def test_too_small_a_haystack():
    hay = haystack(1234)
    hay.check_holds(1234)
    with pytest.raises(UsageError) as raised:
        hay.check_holds(4096)
    assert str(raised.value).splitlines() == [
        "the haystack has 1,234 tokens",
        "  where:    made up",
        "  expected: at least 4,096, the length of the longest items",
        "  fix:      name a larger one with --haystack, or give shorter --lengths",
    ]


TEXTS = ["Call me Ishmael.", "Some years ago,\nnever mind how long"]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_text_files(tmp_path, suffix):
    path = tmp_path / f"book{suffix}"
    lines = "".join(json.dumps({"text": text}) + "\n\n" for text in TEXTS)
    path.write_text(lines if suffix == ".jsonl" else TEXTS[1], "utf-8")
    known = vocabulary()
    found = of_file(path, known)
    expected = "\n\n".join(TEXTS) if suffix == ".jsonl" else TEXTS[1]
    assert known.tokenizer.decode(found.ids.tolist()) == expected
    assert found.bos == ()


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.parquet", b"", "the haystack has no known format: "),
        ("a.jsonl", b'{"text": "a"}\n{"text": 1}\n', "the line has no text"),
        ("a.jsonl", b"[1]\n", "the line has no text"),
        ("a.txt", b"\xff", "the haystack is not UTF-8: "),
        ("a.txt", None, "the haystack cannot be read: No such file"),
    ],
)
def test_files_that_are_no_haystack(tmp_path, name, data, error):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises((UsageError, FormatError), match=error) as raised:
        of_file(path, vocabulary())
    if "line" in error and data.startswith(b"{"):
        assert raised.value.where == f"{path}, line 2"


def test_the_token_before_a_text_that_the_tokenizer_adds(tmp_path):
    known = vocabulary()
    known.tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    path = tmp_path / "a.txt"
    path.write_text(TEXTS[0])
    found = of_file(path, known)
    assert found.bos == (0,)
    assert found.ids.tolist() == list(known.encode(TEXTS[0]))
