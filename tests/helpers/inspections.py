"""Inspections of corpora that nobody has to tokenize: counts per bucket, given one by one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from exactcpt.pipeline.config import PackConfig
from exactcpt.pipeline.core.buckets import bucket_count
from exactcpt.pipeline.core.weighting import weigh
from exactcpt.pipeline.core.whatif import Exposure, SourceExposure
from exactcpt.pipeline.inspection.as_json import to_json
from exactcpt.pipeline.inspection.command_lines import pack_command
from exactcpt.pipeline.inspection.subject import Row, Subject
from exactcpt.pipeline.pack.settings import pack_settings


def exposure_of(counts: Mapping[str, Sequence[int]], window: int) -> Exposure:
    """What windows would have with these counts per bucket of each source."""
    sources = {
        name: SourceExposure(documents=3, tokens=sum(some) + 3, histogram=np.array(some, np.int64))
        for name, some in counts.items()
    }
    windows = np.arange(bucket_count(window), dtype=np.int64)
    return Exposure(
        window=window,
        windows=int(windows.sum()),
        segments=3 * len(sources),
        cut_documents=1,
        largest_context=window - 1,
        windows_by_largest=windows,
        sources=sources,
    )


def row_of(counts: Mapping[str, Sequence[int]], window: int, **settings: Any) -> Row:
    config = PackConfig(window=window, **settings)
    chosen = pack_settings(config, list(counts))
    exposure = exposure_of(counts, window)
    return Row(
        settings=chosen,
        exposure=exposure,
        weighting=weigh(exposure, config.exact),
        command=pack_command("corpus.store", chosen),
    )


def subject_of(*rows: Row, path: str = "corpus.store", kind: str = "token store") -> Subject:
    sources = [
        {"name": name, "read": {"documents": source.documents, "tokens": source.tokens}}
        for name, source in rows[0].exposure.sources.items()
    ]
    manifest = {"sources": sources, "settings": {}, "tokenizer": {"sha256": "0" * 64}}
    return Subject(path=path, kind=kind, manifest=manifest, longest_document=5000, rows=rows)


def inspection_of(*subjects: Subject) -> dict[str, Any]:
    return to_json(subjects)


COUNTS = {
    "books": [120, 130, 260, 500, 900, 1500, 2600, 4100],
    "notes": [900, 800, 700, 400, 100, 20, 3, 0],
}
WINDOW = 1024


def small_inspection() -> dict[str, Any]:
    """A store of two sources, in two windows."""
    half = {name: counts[:7] for name, counts in COUNTS.items()}
    return inspection_of(subject_of(row_of(COUNTS, WINDOW), row_of(half, 512)))
