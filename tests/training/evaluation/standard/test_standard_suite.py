"""What becomes of lm-eval's samples, with a harness by hand."""

import io

import pytest
from rich.console import Console

from exactcpt.schemas.errors import ExactcptError, UsageError
from exactcpt.training.evaluation.standard import harness
from exactcpt.training.evaluation.standard import suite as module
from exactcpt.training.evaluation.standard.harness import Sample, _samples
from exactcpt.training.evaluation.standard.suite import StandardSuite
from exactcpt.training.evaluation.standard.summary import standard_rows
from exactcpt.training.evaluation.standard.tables import standard_note, standard_tables
from exactcpt.training.evaluation.standard.tasks import SIX


def record(number: int, filter_name: str = "none", **scores) -> dict:
    return {
        "doc_id": number, "filter": filter_name, "metrics": [*scores], "doc_hash": f"d{number}",
        "prompt_hash": f"p{number}", "target": number % 2, "resps": [[(-1.0, False)]], **scores,
    }  # fmt: skip


class Harness:
    """Finds for every leaf what it is given."""

    def __init__(self, found: dict[str, list[Sample]]) -> None:
        self.found = found
        self.asked: list = []

    def evaluate(self, lm, leaf, **how):
        self.asked.append((leaf, how))
        return self.found[leaf]


class Journal:
    def __init__(self, scores: dict) -> None:
        self.scores = scores

    def add(self, scores: dict, seconds: float) -> None:
        self.scores |= scores


def sample(number: int, **scores: float) -> Sample:
    return Sample(number, f"d{number}", f"p{number}", "0", None, scores)


def scored(found: dict[str, list[Sample]], monkeypatch, known: dict | None = None, **identity):
    monkeypatch.setattr(module, "open_harness", lambda *_: None)
    by_hand = Harness(found)
    suite = StandardSuite(
        by_hand, {name: name for name in found},  # pyright: ignore[reportArgumentType]
        {"shots": 2, "asked": None, "seed": 0} | identity,
    )  # fmt: skip
    journal = Journal(known or {})
    suite.score(None, 1, journal, lambda _: None)  # pyright: ignore[reportArgumentType]
    return suite.tables(journal.scores), by_hand


def test_without_lm_eval_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(harness, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="the suite standard needs lm-evaluation-harness") as told:
        harness.harness_version()
    assert told.value.fix is not None
    assert "[evaluate]" in told.value.fix


def test_scores_of_all_filters_are_kept_of_every_item():
    records = [
        record(n, each, exact_match=float(n == 1))
        for each in ("strict", "flexible")
        for n in (1, 0)
    ]
    found = [*_samples(records, "gsm8k")]
    assert [each.number for each in found] == [0, 1]
    assert found[1].scores == {"exact_match,strict": 1.0, "exact_match,flexible": 1.0}
    assert (found[1].doc, found[1].prompt, found[1].target) == ("d1", "p1", "1")


def test_lengths_that_a_prompt_is_not_of_have_no_score():
    """lm-eval's ruler gives them -1."""
    (found,) = _samples([record(0, **{"4096": 0.5, "8192": -1})], "niah_single_1")
    assert found.scores == {"4096": 0.5}


def test_a_task_without_scores_of_items_is_refused():
    with pytest.raises(ExactcptError, match="lm-eval gives the items of wikitext no scores"):
        list(_samples([record(0, word_perplexity=(-3.0, 4))], "wikitext"))


def test_items_of_all_leaves_become_one_table(monkeypatch):
    found = {
        "mmlu_a": [sample(0, acc=1.0), sample(1, acc=0.0)],
        "mmlu_b": [sample(0, acc=0.0)],
    }
    tables, by_hand = scored(found, monkeypatch, asked=7, seed=3)
    items, scores = tables["items.parquet"], tables["scores.parquet"]
    assert items["item"].to_pylist() == scores["item"].to_pylist() == [0, 1, 2]
    assert items["task"].to_pylist() == ["mmlu_a", "mmlu_a", "mmlu_b"]
    assert by_hand.asked == [
        (leaf, {"shots": 2, "limit": 7, "seed": 3}) for leaf in ("mmlu_a", "mmlu_b")
    ]
    (row,) = standard_rows(items, scores, "mmlu")
    assert row == {"task": "mmlu", "metric": "acc", "items": 3, "score": pytest.approx(1 / 3)}


def test_a_leaf_that_the_journal_has_is_not_scored_again(monkeypatch):
    found = {"mmlu_a": [sample(0, acc=1.0)], "mmlu_b": [sample(0, acc=0.0)]}
    tables, by_hand = scored(found, monkeypatch, {"mmlu_a": [[*sample(0, acc=0.0)]]})
    assert [leaf for leaf, _ in by_hand.asked] == ["mmlu_b"]
    assert tables["scores.parquet"]["score"].to_pylist() == [0.0, 0.0]


def test_one_of_the_six_has_one_score_others_have_all(monkeypatch):
    tables, _ = scored({"piqa": [sample(0, acc=0.0, acc_norm=1.0)]}, monkeypatch)
    both = tables["items.parquet"], tables["scores.parquet"]
    assert [row["metric"] for row in standard_rows(*both, "piqa")] == ["acc_norm"]
    assert [row["metric"] for row in standard_rows(*both, "boolq")] == ["acc", "acc_norm"]


def shown(tasks, **more) -> tuple[str, str]:
    summaries = [
        {
            "model": "m", "shots": 5, "asked": None, "harness": "0.4", "is_local": False,
            "rows": [{"task": task, "metric": "acc", "items": 9, "score": 0.1 * n}], **more,
        }
        for n, task in enumerate(tasks)
    ]  # fmt: skip
    console = Console(width=100, record=True, file=io.StringIO())
    for table in standard_tables(summaries):
        console.print(table)
    return console.export_text(), standard_note(summaries).plain


def test_the_macro_is_shown_for_all_six_and_no_less():
    table, note = shown(SIX)
    assert "macro" in table
    assert "0.2500" in table
    assert "macro: the mean of the six tasks" in note
    table, note = shown([*SIX][1:])
    assert "macro" not in table + note


def test_items_that_are_not_all_of_a_data_set_are_told():
    assert "published" not in shown(SIX)[1]
    assert "some items of each task only" in shown(SIX, asked=3)[1]
    assert "items of --data: published scores are of the whole" in shown(SIX, is_local=True)[1]
