"""Lists that were read become rows, wherever in a buffer they lie."""

import numpy as np

from exactcpt.pipeline.sources.records import Strings
from exactcpt.pipeline.weigh.lists import lists_of


def test_the_rows_of_a_part_of_a_buffer_are_its_own() -> None:
    buffer = np.array([9, 9, 1, 2, 3, 4, 9], np.int32)
    rows = lists_of(Strings(np.array([2, 4, 4, 6]), buffer))
    assert rows.ends.tolist() == [0, 2, 2, 4]
    assert rows.values.tolist() == [1, 2, 3, 4]
