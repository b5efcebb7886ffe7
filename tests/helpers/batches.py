"""Texts and token ids as tokenization passes them, and back."""

from hypothesis import strategies as st

from exactcpt.pipeline.sources.records import Strings

END = "<|endoftext|>"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def strings(*values: str) -> Strings:
    return Strings.of_texts([value.encode() for value in values])


def lists(encoded: Strings) -> list[list[int]]:
    return [encoded[i].tolist() for i in range(len(encoded))]
