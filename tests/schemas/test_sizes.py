"""Counts as people read them; tests/commands/test_config.py has those that people write."""

import pytest

from exactcpt.schemas.sizes import plural


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 windows"), (1, "1 window"), (2, "2 windows"), (1234, "1,234 windows")],
)
def test_a_count_with_its_noun(count, text):
    assert plural(count, "window") == text


def test_a_plural_of_its_own():
    assert [plural(n, "copy", "copies") for n in (1, 2)] == ["1 copy", "2 copies"]
