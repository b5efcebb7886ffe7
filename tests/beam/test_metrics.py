"""The metrics of a run say what its files say."""

from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from stores import read_store, splits_of, task_of, write_jsonl

from exactcpt.pipeline.beam.metrics import NAMESPACE, note_done
from exactcpt.pipeline.beam.transforms import Crew
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job.attempt import attempt_at
from exactcpt.pipeline.tokens.builder import read_summary
from exactcpt.pipeline.tokens.graph import tokenize_graph
from exactcpt.pipeline.tokens.units import scan_tasks


def test_outside_of_a_graph_nothing_is_counted():
    note_done(documents=1)


def tokenized(folder: Folder, splits: list[Any], task: Any, **crew: int) -> Any:
    with attempt_at(folder, engine=None) as attempt:
        pipeline = beam.Pipeline(runner=FnApiRunner())
        tokenize_graph(pipeline, task, scan_tasks(splits), splits, Crew(attempt, **crew))
        result = pipeline.run()
        result.wait_until_finish()
        return result.metrics()


def counters(metrics: Any, stage: str) -> dict[str, int]:
    found = metrics.query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    return {one.key.metric.name: one.committed for one in found if stage in one.key.step}


@pytest.mark.slow
@pytest.mark.parametrize(
    "crew", [{"processes": 1}, {"processes": 1, "threads": 3}, {"processes": 2}, {}], ids=str
)
def test_tokenizing_counts_what_the_summaries_say(tmp_path: Path, crew: dict[str, int]):
    texts = ["", *(f"rose {i} " * i for i in range(1, 40))]
    corpus = write_jsonl(tmp_path / "a.jsonl", texts)
    with corpus.open("a") as file:
        file.write('{"no text": 1}\n')
    store = Folder(str(tmp_path / "store"))
    splits = splits_of({"a": corpus}, 1000)
    task = task_of(tmp_path / "store", split_bytes=1000)
    metrics = tokenized(store, splits, task, **crew)
    names = [name for name in store.names("parts") if name.endswith(".json")]
    summaries = [read_summary(store, name) for name in names]
    expected = {
        key: sum(each[key] for each in summaries) for key in ("documents", "tokens", "text_bytes")
    }
    expected["rejected_records"] = sum(sum(each["rejected"].values()) for each in summaries)
    expected["dropped_documents"] = sum(sum(each["dropped"].values()) for each in summaries)
    assert expected["rejected_records"] == expected["dropped_documents"] == 1
    read = {"files": 1, "input_bytes": corpus.stat().st_size}
    if crew.get("processes") == 1:
        assert counters(metrics, "Tokenize") == {"units": len(splits), **expected, **read}
    else:
        assert counters(metrics, "Tokenize") == {"units": len(splits), **expected}
        assert counters(metrics, "Read files") == {"units": 1, **read}
    (lasted,) = [
        one.committed
        for one in metrics.query(MetricsFilter().with_name("milliseconds"))["distributions"]
        if "Tokenize" in one.key.step
    ]
    assert lasted.count == len(splits)
    again = tokenized(store, splits, task, **crew)
    assert counters(again, "Tokenize") == {"units": len(splits)}
    assert len(read_store(tmp_path / "store")) > 0
