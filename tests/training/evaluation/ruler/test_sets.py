"""The items of ruler need a tokenizer that can write them."""

import pytest
import vocabularies
from evaluations import vocabulary
from tokenizers import Tokenizer, models

from exactcpt.schemas.errors import UsageError
from exactcpt.training.evaluation.ruler.sets import check_writes
from exactcpt.training.evaluation.vocabulary import read_vocabulary


def test_a_vocabulary_of_a_language():
    check_writes(vocabulary())


@pytest.mark.parametrize(
    ("tokenizer", "told"),
    [
        (vocabularies.word_level(), "0123456789"),  # all unknown words are one token
        (Tokenizer(models.BPE(vocab={"a": 0}, merges=[])), "0123456789"),  # and here are none
        (vocabularies.byte_level(), None),
    ],
)
def test_words_that_cannot_be_written(tmp_path, tokenizer, told):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    known = read_vocabulary(tmp_path)
    if told is None:
        check_writes(known)
        return
    with pytest.raises(UsageError) as raised:
        check_writes(known)
    assert raised.value.found == f"the tokenizer does not tell all of the characters {told} apart"
    assert raised.value.where == str(tmp_path / "tokenizer.json")
