"""The heaviest segments, one of a document, whatever batches they come in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.shard_set.windows import Segments
from exactcpt.pipeline.show.spans import Heaviest

SEGMENT = st.tuples(st.integers(0, 4), st.integers(0, 5))
"""Document and extra weight."""


@given(batches=st.lists(st.lists(SEGMENT, min_size=1, max_size=8)), count=st.integers(1, 6))
def test_the_heaviest_of_each_document(batches, count):
    found, every = Heaviest(count), []
    for batch in batches:
        document, extra = (np.array(column) for column in zip(*batch, strict=True))
        window = np.arange(len(every), len(every) + len(batch))
        every += [(*segment, int(n)) for segment, n in zip(batch, window, strict=True)]
        zeros = np.zeros(len(batch), np.int64)
        segments = Segments(
            window=window, start=zeros, length=zeros, document=document, offset=zeros
        )
        found.add(segments, extra.astype(np.float64))
    best = {}
    for document, extra, window in every:
        if extra > best.get(document, (0, 0))[0]:
            best[document] = (extra, window)
    expected = sorted(best.values(), key=lambda each: (-each[0], each[1]))[:count]
    assert [(span.extra, span.window) for span in found.spans] == expected
    assert found.total == sum(extra for _, extra, _ in every)
    assert found.number == sum(extra > 0 for _, extra, _ in every)
