"""What the first reading counts of padding inside the text of rows."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from exactcpt.pipeline.weigh.counting import inner_padding

END = 0
TEXTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=5)


def padding_one_by_one(texts: list[list[int]], fill: int) -> int:
    """Fill counts wherever it stands, and an end that no word precedes in its row."""
    found = 0
    for text in texts:
        before = END
        for token in text:
            found += token == fill != END or (token == END and before in (END, fill))
            before = token
    return found


@given(TEXTS, st.sampled_from([END, 1]))
@example([[END, 2]], END)
@example([[2], [END, 2]], END)
@example([[2, END], [END, 2]], 1)
@example([[2, END], [2, END]], END)
def test_padding_inside_texts(texts: list[list[int]], fill: int) -> None:
    ids = np.array([token for text in texts for token in text], np.int32)
    ends = np.flatnonzero(ids == END)
    lengths = np.array([len(text) for text in texts])
    task: Any = SimpleNamespace(end_id=END, fill_id=fill)
    assert inner_padding(ends, ids, lengths, task) == padding_one_by_one(texts, fill)
