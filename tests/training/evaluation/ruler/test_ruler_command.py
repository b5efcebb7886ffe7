"""`exactcpt evaluate --suite ruler` as its users run it."""

import json
from pathlib import Path

import harness
import pyarrow.parquet as pq
import pytest
import ruler
from harness import done, run
from killed_evaluations import kills_until_finished
from tiny import DATA, model_folder

from exactcpt.schemas.manifest import EVALUATION, parse
from exactcpt.training.evaluation.models import FolderModel
from exactcpt.training.evaluation.ruler.tasks import MAKERS

pytestmark = pytest.mark.slow

FEW = ["--suite", "ruler", "--items", "1", "--lengths", "1000,1100", "--device", "cpu"]
TWO = ["--tasks", "niah_multikey_1,fwe"]
ALL = ["--score", "loglik,choice,generate"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ruler")
    model_folder(folder / "model", max_position_embeddings=1050)
    lines = (DATA / "proposals.jsonl").read_text().splitlines()[:8]
    (folder / "book.txt").write_text("\n\n".join(json.loads(line)["text"] for line in lines))
    return folder


def of_book(made, *more):
    return ["evaluate", made / "model", "--haystack", made / "book.txt", *FEW, *more]


@pytest.fixture(scope="module")
def results(made, tmp_path_factory) -> Path:
    """Two tasks, scored in every way."""
    out = tmp_path_factory.mktemp("results")
    done(*of_book(made, *TWO, *ALL, "--out", out))
    return out


def folder_of(out: Path, length: int) -> Path:
    (found,) = (out / "model").glob(f"ruler-{length}-*")
    return found


def manifest(folder: Path) -> dict:
    path = folder / "manifest.json"
    return parse(path.read_bytes(), str(path), EVALUATION)


def scores_of(folder: Path) -> list[dict]:
    return pq.read_table(folder / "scores.parquet").to_pylist()


def test_all_tasks_that_need_no_file(made, tmp_path):
    out = done(*of_book(made, "--lengths", "1000", "--out", tmp_path))
    said = manifest(folder_of(tmp_path, 1000))
    assert said["tasks"] == [*MAKERS]
    assert said["score"] == ["loglik", "choice"]
    assert (said["ablation"], said["extrapolated"]) == (None, False)
    scores = scores_of(folder_of(tmp_path, 1000))
    assert len(scores) == 11
    assert [row["correct"] is not None for row in scores] == [True] * 6 + [False] * 5
    assert {row["output"] for row in scores} == {row["match"] for row in scores} == {None}
    assert "ruler, log-probability of the right answer, in nats per token" in out.out
    assert "ruler-11" in out.out
    assert all(len(line) <= 80 for line in out.out.splitlines() if line[:1] in "┏┃┡│├└")
    assert "published scores of RULER are of other prompts" in out.out
    assert "ruler 1,000: 11 items, 9" in out.err


def test_tasks_without_prose_take_any_haystack(made, tmp_path):
    (tmp_path / "short.txt").write_text("Too short.")
    command = of_book(made, "--lengths", "1000", "--score", "loglik", "--out", tmp_path / "out")
    short = ["--haystack", tmp_path / "short.txt"]
    done(*command, *short, "--tasks", "niah_single_1,niah_multikey_3,vt,cwe,fwe")
    assert "the sentences of the haystack have" in run(*command, *short).err


def test_every_item_has_its_scores(results):
    for length in (1000, 1100):
        folder = folder_of(results, length)
        items = pq.read_table(folder / "items.parquet").to_pylist()
        needle, words = scores_of(folder)
        assert [item["task"] for item in items] == ["niah_multikey_1", "fwe"]
        for item, row in zip(items, (needle, words), strict=True):
            assert row["n_answer_tokens"] == len(item["answer"])
            assert row["logp_gold"] < 0
            gold = [string in row["output"] for string in item["gold"]]
            assert row["match"] == sum(gold) / len(gold)
        best = needle["mean_logp_best_other"]
        assert needle["correct"] == (needle["logp_gold"] / needle["n_answer_tokens"] > best)
        assert (words["mean_logp_best_other"], words["correct"]) == (None, None)
        assert manifest(folder)["score"] == ["loglik", "choice", "generate"]
    assert manifest(folder_of(results, 1100))["extrapolated"]


def test_alone_or_together_scores_are_the_same(made, results, tmp_path):
    """One prompt at a time, and each score by a command of its own."""
    for score in ("loglik", "choice", "generate"):
        out = tmp_path / score
        done(*of_book(made, *TWO, "--score", score, "--out", out, "--batch-tokens", "1"))
        found = scores_of(folder_of(out, 1000))
        for one, all_ in zip(found, scores_of(folder_of(results, 1000)), strict=True):
            for name in ("logp_gold", "mean_logp_best_other", "correct", "output", "match"):
                expected = pytest.approx(all_[name], abs=1e-4)
                assert one[name] is None or one[name] == expected
            assert (one["output"] is None) == (score != "generate")
            assert (one["logp_gold"] is None) == (score == "generate")
        assert (found[0]["correct"] is None) == (score != "choice")


def test_outputs_are_kept_and_matched(made, tmp_path, monkeypatch):
    """The model writes four of the five answers, and a control character."""
    (item,) = ruler.items("vt", 1000)  # its haystack is none
    output = f" {', '.join(item.gold[:4]).lower()}\x07 and so on"
    ids = list(ruler.VOCABULARY.encode(output))
    monkeypatch.setattr(FolderModel, "write", lambda _, prompts, most: [ids for _ in prompts])
    command = of_book(made, "--lengths", "1000", "--tasks", "vt", "--score", "generate")
    found = done(*command, "--out", tmp_path, "--json").json["evaluations"][0]
    (row,) = scores_of(folder_of(tmp_path, 1000))
    assert (row["output"], row["match"]) == (output, 0.8)
    assert found["rows"][0]["match"] == 0.8


def test_an_evaluation_killed_at_every_batch_ends_with_the_same_bytes(
    made, results, tmp_path, monkeypatch
):
    command = [*map(str, of_book(made, *TWO, *ALL, "--lengths", "1000")), "--quiet"]
    assert kills_until_finished([*command, "--out", str(tmp_path)], monkeypatch) == 8
    whole, killed = folder_of(results, 1000), folder_of(tmp_path, 1000)
    assert {*harness.files(whole)} == {*harness.files(killed)}
    for path in whole.glob("*.parquet"):
        assert path.read_bytes() == (killed / path.name).read_bytes()


def test_what_is_finished_is_not_computed_again(made, results, monkeypatch):
    def refuse(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(FolderModel, "__init__", refuse)
    again = done(*of_book(made, *TWO, *ALL, "--out", results))
    assert again.err.count("finished already") == 2


def test_half_of_the_memory(made, tmp_path, monkeypatch):
    """Three prompts of one length at a time do not fit; all of them are scored."""
    plain = FolderModel.write
    sizes = []

    def write(self, prompts, most):
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
        return plain(self, prompts, most)

    monkeypatch.setattr(FolderModel, "write", write)
    command = of_book(made, "--lengths", "1000", "--tasks", "fwe", "--score", "generate")
    done(*command, "--items", "4", "--out", tmp_path)
    assert max(sizes) > 2 >= min(sizes)
    assert len(scores_of(folder_of(tmp_path, 1000))) == 4


def test_json_has_the_means(made, results):
    found = done(*of_book(made, *TWO, *ALL, "--out", results, "--json")).json["evaluations"]
    assert [(each["suite"], each["length"]) for each in found] == [("ruler", 1000), ("ruler", 1100)]
    needle, words, mean = found[0]["rows"]
    first, second = scores_of(folder_of(results, 1000))
    assert needle["loglik"] == pytest.approx(first["logp_gold"] / first["n_answer_tokens"])
    assert (needle["choice"], words["choice"]) == (first["correct"], None)
    assert mean["choice"] == needle["choice"]
    assert mean["match"] == (first["match"] + second["match"]) / 2
    assert (mean["task"], mean["score"], mean["items"]) == (None, None, 2)
    assert 0.9 < mean["full"] <= 1


def test_items_without_a_model(made, results, tmp_path):
    only = ["evaluate", "--items-only", *FEW, *TWO, "--haystack", made / "book.txt", "--out",
            tmp_path, "--tokenizer", made / "model"]  # fmt: skip
    folders = [Path(path) for path in done(*only, "--json").json["items"]]
    for folder, length in zip(folders, (1000, 1100), strict=True):
        same = folder_of(results, length)
        assert (folder / "items.parquet").read_bytes() == (same / "items.parquet").read_bytes()
        assert manifest(folder)["items"] == manifest(same)["items"]
        lines = (folder / "prompts.jsonl").read_text().splitlines()
        items = pq.read_table(folder / "items.parquet").to_pylist()
        for item, prompt in zip(items, map(json.loads, lines), strict=True):
            assert {*prompt} == {"item", "ids", "text"}
            assert (prompt["item"], len(prompt["ids"])) == (item["item"], item["n_tokens"])
            assert prompt["text"].endswith((" is", " are"))
    both = done(*only, "--suite", "probe,ruler", "--tasks", "code,fwe", "--json").json["items"]
    assert [Path(path).name.partition("-")[0] for path in both] == ["probe"] * 2 + ["ruler"] * 2


def test_questions_from_files(made, tmp_path):
    paragraph = "Denver lies in Colorado. " * 8
    qas = [{"question": "Where is Denver?", "answers": [{"text": "Colorado"}]}]
    squad = {"data": [{"paragraphs": [{"context": paragraph, "qas": qas}]}]}
    hotpot = [{"question": "Where?", "answer": "there", "supporting_facts": [["a", 0]],
               "context": [["a", ["It is there."]], ["b", ["It is not."]]]}]  # fmt: skip
    files = []
    for name, value in (("squad", squad), ("hotpotqa", hotpot)):
        (tmp_path / name).write_text(json.dumps(value))
        files += [f"--{name}", tmp_path / name]
    command = of_book(made, "--lengths", "1000", "--score", "loglik")
    out = done(*command, *files, "--out", tmp_path / "both")
    assert "ruler-13" in out.out
    assert "caution: the prompts of qa_1 and their answers fill" in out.err
    assert "ruler-12" in done(*command, *files[:2], "--out", tmp_path / "one").out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--score", "words"], "there is no score 'words'"),
        (["--suite", "probe", "--score", "generate"], "--score is for the suites ruler"),
        (["--tasks", "qa_1"], "the task qa_1 reads a file that exactcpt does not bring along"),
        (["--tasks", "qa_*"], "the task qa_1 reads a file that exactcpt does not bring along"),
        (["--tasks", "qa_1,qa_2", "--squad", "BOOK"], "the task qa_2 reads a file that exactcpt"),
        (["--tasks", "vt", "--squad", "BOOK"], "--squad is for the task qa_1 of the suite ruler"),
        (
            ["--suite", "probe", "--hotpotqa", "BOOK"],
            "--hotpotqa is for the task qa_2 of the suite",
        ),
        (["--squad", "BOOK"], "this is not a file of SQuAD 2.0"),
        (["--hotpotqa", "nowhere"], "the file of HotpotQA cannot be read: No such file"),
        (["--lengths", "128"], "no item of the task niah_single_1 fits into 128 tokens, of which"),
        (["--lengths", "1000000"], "the sentences of the haystack have"),
        (["--tasks", "niah_single_9"], "no task is named 'niah_single_9'"),
    ],
)
def test_wrong_usage(made, tmp_path, arguments, error):
    named = [made / "book.txt" if each == "BOOK" else each for each in arguments]
    outcome = run(*of_book(made, "--out", tmp_path / "out"), *named)
    assert outcome.code in {1, 2}
    assert error in outcome.err
    assert not (tmp_path / "out").exists()
