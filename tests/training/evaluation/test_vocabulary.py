"""A tokenizer reads texts and pieces of texts, and is known by what it does."""

import json
import shutil

import harness
import pytest
from evaluations import DATA, vocabulary
from tokenizers import Tokenizer, decoders, models, normalizers

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.training.evaluation.vocabulary import read_vocabulary


def saved(folder, tokenizer):
    tokenizer.save(str(folder / "tokenizer.json"))
    return read_vocabulary(folder)


def spacing(folder):
    """A token per character, and one for a space, which is put before every text."""
    letters = {letter: i for i, letter in enumerate("▁\nabcdefghijklmnopqrstuvwxyz.")}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Fuse()
    return saved(folder, tokenizer)


@pytest.mark.parametrize("piece", ["abc", " abc", "\nthe home of", ".\n", "a"])
def test_a_piece_has_no_space_that_it_did_not_have(tmp_path, piece):
    known = spacing(tmp_path)
    tokens = [known.tokenizer.id_to_token(i) for i in known.piece(piece)]
    assert "".join(tokens).replace("▁", " ") == piece
    assert len(known.encode(piece)) == len(piece) + 1


def test_pieces_make_up_a_text(tmp_path):
    known = spacing(tmp_path)
    pieces = ["\nthe home of", " plolil", " is", " stugou", "wick", ".\n"]
    together = [i for piece in pieces[1:] for i in known.piece(piece)]
    assert known.encode("".join(pieces))[-len(together) :] == tuple(together)


@pytest.mark.parametrize("piece", [" Velmora", "\nThe home of", 'KESTO = "', "\n\n", ".\n"])
def test_other_tokenizers_have_the_pieces_that_they_have_alone(piece):
    assert vocabulary().piece(piece) == vocabulary().encode(piece)


MANY = [" Velmora", "a", "", "\n\n", " the home of", ".\n"]


def test_many_pieces_are_those_of_each(tmp_path):
    """Also where a line's end joins the piece, so that there is no seam."""
    assert vocabulary().pieces(MANY) == [vocabulary().piece(piece) for piece in MANY]
    known = spacing(tmp_path)
    small = [piece.lower() for piece in MANY]
    assert known.pieces(small) == [known.piece(piece) for piece in small]
    joining = Tokenizer(models.BPE(vocab={"\n": 0, "a": 1, "\na": 2}, merges=[("\n", "a")]))
    known = saved(tmp_path, joining)
    assert known.pieces(["a", "\n"]) == [known.piece("a"), known.piece("\n")] == [(1,), (0,)]


@pytest.mark.parametrize("at_once", [1, 5, 1000])
def test_many_texts_are_encoded_as_each(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr("exactcpt.training.evaluation.vocabulary.AT_ONCE", at_once)
    found = vocabulary().encode_all(MANY)
    assert [tuple(ids.tolist()) for ids in found] == [vocabulary().encode(text) for text in MANY]
    assert {ids.dtype.name for ids in found} == {"int32"}
    assert vocabulary().encode_all([]) == []


def test_the_text_that_cannot_be_encoded_is_named(tmp_path):
    """Of many, too: the library's own error does not say which one."""
    tokenizer = Tokenizer(models.WordLevel(vocab={"a": 0, "\n": 1, "\na": 2}, unk_token="none"))
    known = saved(tmp_path, tokenizer)
    for encode in (known.encode_all, known.pieces):
        with pytest.raises(UsageError, match=r"cannot encode '(\\n)?b'"):
            encode(["a", "b"])


def test_special_tokens_in_a_text_are_text():
    assert len(vocabulary().encode("<|endoftext|>")) > 1


def test_the_digest_is_of_what_a_tokenizer_does(tmp_path):
    plain = json.loads((DATA / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain, indent=3))
    same = read_vocabulary(tmp_path)
    assert same.digest == vocabulary().digest
    tokenizer = Tokenizer.from_file(str(DATA / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=100)
    assert saved(tmp_path, tokenizer).digest == vocabulary().digest
    assert len(saved(tmp_path, tokenizer).encode("one two three four five six")) > 4
    tokenizer.normalizer = normalizers.Lowercase()
    assert saved(tmp_path, tokenizer).digest != vocabulary().digest
    renamed = harness.changed_tokenizer(tmp_path / "renamed", harness.rename_eos)
    assert read_vocabulary(renamed).digest != vocabulary().digest


def test_dropout_is_off(tmp_path):
    """Items would be others in every process."""

    def drop(tokenizer):
        tokenizer["model"]["dropout"] = 0.5

    known = read_vocabulary(harness.changed_tokenizer(tmp_path, drop))
    assert known.digest == vocabulary().digest
    assert known.encode("The home of Plolil") == vocabulary().encode("The home of Plolil")


def test_a_text_that_the_vocabulary_lacks(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="<unk>"))
    known = saved(tmp_path, tokenizer)
    with pytest.raises(UsageError, match="the tokenizer cannot encode 'b': ") as raised:
        known.encode("b")
    with pytest.raises(UsageError, match="the tokenizer cannot encode"):
        known.pieces(["a", "b"])
    assert raised.value.where == str(tmp_path / "tokenizer.json")


def test_no_tokenizer(tmp_path):
    with pytest.raises(FormatError, match="the tokenizer cannot be read"):
        read_vocabulary(tmp_path)
    shutil.copy(DATA / "poems.jsonl", tmp_path / "tokenizer.json")
    with pytest.raises(FormatError, match="the tokenizer cannot be read"):
        read_vocabulary(tmp_path / "tokenizer.json")
