"""`exactcpt evaluate` as its users run it."""

import json
import shutil
from pathlib import Path

import harness
import pyarrow.parquet as pq
import pytest
from harness import done, run, write_jsonl
from killed_evaluations import kills_until_finished
from tiny import DATA, config, model_folder, shard_set
from tokenizers import Tokenizer

from exactcpt.schemas.manifest import EVALUATION, parse
from exactcpt.training.evaluation.models import FolderModel
from exactcpt.training.train import train

pytestmark = pytest.mark.slow

FEW = ["--items", "1", "--lengths", "128,256", "--device", "cpu"]
SHORT = ["--lengths", "128"]
BOTH = ["--suite", "probe,buckets", *FEW]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A shard set with a model, and two runs of it."""
    folder = tmp_path_factory.mktemp("evaluate")
    shard_set(folder / "shards", times=4)
    model_folder(folder / "model", max_position_embeddings=200)
    for name in ("exact", "uniform"):
        settings = config(folder, folder / name, weighting=name, steps=2, save_every=1)
        assert train(settings, lambda _: None).finished
    return folder


def evaluated(folder: Path) -> dict[str, Path]:
    """Suite and length -> the folder with its results."""
    return {path.name.rpartition("-")[0]: path for path in sorted(folder.iterdir())}


def manifest(folder: Path) -> dict:
    path = folder / "manifest.json"
    return parse(path.read_bytes(), str(path), EVALUATION)


@pytest.fixture(scope="module")
def results(made, tmp_path_factory) -> Path:
    """Both runs and their model, evaluated by one command."""
    out = tmp_path_factory.mktemp("results")
    done("evaluate", made / "exact", made / "uniform", made / "model", *BOTH, "--out", out)
    return out


def test_every_model_has_every_suite_and_length(results):
    for name in ("exact", "uniform", "model"):
        found = evaluated(results / name)
        assert {*found} == {"probe-128", "probe-256", "buckets-64"}
        for folder in found.values():
            files = {"manifest.json", "scores.parquet"}
            files |= {"items.parquet"} if "probe" in folder.name else set()
            assert {path.name for path in folder.iterdir()} == files


def test_what_the_manifest_says(results):
    run_of, plain = (manifest(evaluated(results / n)["probe-256"]) for n in ("exact", "model"))
    assert run_of["step"] == 2
    assert (run_of["tau"], run_of["window"]) == (16, 64)
    assert run_of["positions"] == 200
    assert run_of["extrapolated"]
    assert run_of["tasks"] == ["number", "place", "code", "alias", "natural"]
    assert run_of["precision"] == "fp32"
    assert run_of["device"] == "cpu"
    assert (plain["step"], plain["tau"], plain["window"]) == (None, None, None)
    assert plain["model"] != run_of["model"]
    assert not manifest(evaluated(results / "exact")["probe-128"])["extrapolated"]
    losses = manifest(evaluated(results / "exact")["buckets-64"])
    assert losses["ablation"] is None
    assert losses["tasks"] == ["bucket", "gain-128", "gain-512", "gain-tau", "recurrence"]


def test_all_models_get_the_same_items(results):
    for name in ("probe-128", "probe-256"):
        folders = [evaluated(results / model)[name] for model in ("exact", "uniform", "model")]
        assert len({manifest(folder)["items"] for folder in folders}) == 1
        assert len({(folder / "items.parquet").read_bytes() for folder in folders}) == 1
        assert len({(folder / "scores.parquet").read_bytes() for folder in folders}) == 3


def test_every_item_has_both_conditions(results):
    folder = evaluated(results / "exact")["probe-128"]
    items, scores = (pq.read_table(folder / f"{n}.parquet") for n in ("items", "scores"))
    count = items.num_rows
    assert items["item"].to_pylist() == [*range(count)]
    assert scores["item"].to_pylist() == [i for i in range(count) for _ in range(2)]
    assert scores["condition"].to_pylist() == ["evidence", "ablated"] * count
    rows = scores.to_pylist()
    assert all(row["correct"] == (row["logp_gold"] > row["logp_best_other"]) for row in rows)
    lengths = [len(gold) for gold in items["gold"].to_pylist()]
    assert scores["n_answer_tokens"].to_pylist() == [n for n in lengths for _ in range(2)]


def test_results_of_runs_go_into_the_runs(made, results, tmp_path):
    run = shutil.copytree(made / "exact", tmp_path / "run")
    done("evaluate", run, *FEW, "--lengths", "128")
    for name, folder in evaluated(run / "eval").items():
        same = evaluated(results / "exact")[name]
        assert folder.name == same.name
        assert (folder / "scores.parquet").read_bytes() == (same / "scores.parquet").read_bytes()


def test_the_loss_is_that_of_training(made, results, tmp_path):
    """Stock attention on every segment gives what the run's own evaluation measures."""
    settings = config(made, tmp_path / "run", weighting="exact", steps=2, eval_every=2)
    lines: list[str] = []
    train(settings, lines.append)
    told = [line for line in lines if "validation: loss" in line][-1]
    out = done(
        "evaluate", tmp_path / "run", "--suite", "buckets", "--items", 1000, "--json",
        "--tasks", "bucket",
    ).json  # fmt: skip
    rows = out["evaluations"][0]["rows"]
    targets = sum(row["targets"] for row in rows)
    loss = sum(row["targets"] * row["mean"] for row in rows) / targets
    assert f"loss {loss:.4f} over {targets:,} targets" in told


def test_a_checkpoint_by_its_step(made, tmp_path):
    out = done("evaluate", f"{made / 'exact'}@1", *FEW, "--tasks", "code", "--out", tmp_path)
    assert "caution: the haystack has only 391 tokens, so items of 256 tokens have" in out.err
    assert "@1: probe, 128 tokens" in out.out
    assert manifest(evaluated(tmp_path / "exact")["probe-128"])["step"] == 1
    missing = run("evaluate", f"{made / 'exact'}@7", *FEW, "--out", tmp_path)
    assert missing.code == 2
    assert "the run has no checkpoint of step 7" in missing.err


def test_what_is_finished_is_not_computed_again(made, results, monkeypatch):
    def refuse(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(FolderModel, "__init__", refuse)
    again = done("evaluate", made / "exact", made / "model", *BOTH, "--out", results)
    assert again.err.count("finished already") == 6


def test_an_evaluation_killed_at_every_batch_ends_with_the_same_bytes(made, tmp_path, monkeypatch):
    """Before a batch is on the disk and after; what is there is not scored again."""
    command = [
        "evaluate", str(made / "model"), "--haystack", str(made / "shards"), "--lengths", "128",
        "--suite", "probe,buckets", "--tasks", "code,bucket,recurrence", "--items", "1", "--quiet",
    ]  # fmt: skip
    done(*command, "--out", tmp_path / "whole")
    assert kills_until_finished([*command, "--out", str(tmp_path / "killed")], monkeypatch) >= 6
    whole, killed = (evaluated(tmp_path / name / "model") for name in ("whole", "killed"))
    for name, folder in whole.items():
        assert {*harness.files(folder)} == {*harness.files(killed[name])}
        for path in folder.glob("*.parquet"):
            assert path.read_bytes() == (killed[name] / path.name).read_bytes()


def test_models_of_another_tokenizer_are_refused(made, tmp_path):
    other = model_folder(tmp_path / "other")
    harness.changed_tokenizer(other, harness.rename_eos)
    outcome = run("evaluate", made / "exact", other, *FEW, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "the model has another tokenizer than the items" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_model_with_too_few_rows_is_refused(made, tmp_path):
    small = model_folder(tmp_path / "small", vocab_size=100)
    outcome = run("evaluate", small, *FEW, "--haystack", made / "shards", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "the tokenizer has ids up to 4,095, but the model embeds only 100 tokens" in outcome.err


def test_json_has_the_means(made, results):
    found = done("evaluate", made / "exact", *BOTH, "--out", results, "--json").json
    probe = found["evaluations"][0]
    assert (probe["suite"], probe["length"], probe["tau"]) == ("probe", 128, 16)
    folder = evaluated(results / "exact")["probe-128"]
    items, scores = (
        pq.read_table(folder / f"{n}.parquet").to_pylist() for n in ("items", "scores")
    )
    (row,) = [
        r for r in probe["rows"]
        if (r["task"], r["context"], r["distance"]) == (None, "fixed", 64)
    ]  # fmt: skip
    chosen = [i["item"] for i in items if (i["context"], i["distance"]) == ("fixed", 64)]
    by = {(s["item"], s["condition"]): s for s in scores}
    gains = [by[i, "evidence"]["logp_gold"] - by[i, "ablated"]["logp_gold"] for i in chosen]
    assert row["items"] == len(chosen) == 4
    assert row["gain"] == pytest.approx(sum(gains) / 4)
    assert row["preference"] == sum(by[i, "evidence"]["correct"] for i in chosen) / 4
    assert row["control"] == sum(by[i, "ablated"]["correct"] for i in chosen) / 4
    buckets = found["evaluations"][-1]
    assert [r["low"] for r in buckets["rows"] if r["table"] == "bucket"][:2] == [0, 8]


def test_the_tables(made, results):
    shown = done("evaluate", made / "exact", *BOTH, "--out", results).out
    assert f"{made / 'exact'}: probe, 256 tokens, beyond the model's positions" in shown
    assert f"{made / 'exact'}: buckets, 64 tokens" in shown
    assert "by chance 0.125" in shown
    assert "-0.0000" not in shown
    for row in ("│ 32 *", "│ 192 *", "│ 16-31 *", "│ none"):
        assert row in shown
    assert done("evaluate", made / "exact", *BOTH, "--out", results, "--quiet").out == ""


def test_items_without_a_model(made, results, tmp_path):
    command = ["evaluate", "--items-only", *FEW, "--haystack", made / "shards", "--out", tmp_path]
    folders = done(*command, "--json").json["items"]
    assert folders == [str(path) for path in sorted(tmp_path.iterdir())]
    folder = Path(folders[0])
    same = evaluated(results / "exact")["probe-128"]
    assert (folder / "items.parquet").read_bytes() == (same / "items.parquet").read_bytes()
    assert manifest(folder)["model"] is None
    assert manifest(folder)["items"] == manifest(same)["items"]
    prompts = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    items = pq.read_table(folder / "items.parquet").to_pylist()
    assert len(prompts) == 2 * len(items)
    for prompt in prompts:
        assert len(prompt["ids"]) == items[prompt["item"]]["n_tokens"]
    assert prompts[0]["text"].endswith(" is")
    before = harness.files(tmp_path)
    done(*command)
    assert harness.files(tmp_path) == before


def test_items_to_train_on(made, tmp_path):
    """Items of another seed are prompts and answers, and share no fact with the first ones."""
    flags = [*FEW, *SHORT, "--haystack", made / "shards", "--out", tmp_path / "items"]
    done("evaluate", "--items-only", *flags)
    done("evaluate", "--items-only", *flags, "--seed", "1")
    lines: dict[int, list[dict]] = {}
    for path in sorted((tmp_path / "items").glob("*/questions.jsonl")):
        seed = manifest(path.parent)["seed"]
        lines[seed] = [json.loads(line) for line in path.read_text().splitlines()]
        items = pq.read_table(path.with_name("items.parquet")).to_pylist()
        items = [item for item in items if item["task"] != "natural"]
        prompts = path.with_name("prompts.jsonl").read_text().splitlines()
        texts = [json.loads(prompt)["text"] for prompt in prompts][::2]
        texts = [texts[item["item"]] for item in items]
        assert [line["prompt"] for line in lines[seed]] == texts
        vocabulary = Tokenizer.from_file(str(DATA / "tokenizer.json"))
        golds = [vocabulary.decode(item["gold"]) for item in items]
        assert [line["answer"] for line in lines[seed]] == golds
        assert len({line["id"] for line in lines[seed]}) == len(items)
    assert sorted(lines) == [0, 1]
    assert not {each["fact"] for each in lines[0]} & {each["fact"] for each in lines[1]}
    source = f"{tmp_path}/items/*/questions.jsonl,prompt=prompt,answer=answer"
    inputs = ["--source", f"q={source}", "--tokenizer", DATA / "tokenizer.json", "--workers", 1]
    done("tokenize", *inputs, "--out", tmp_path / "store")
    read = harness.manifest(tmp_path / "store")["sources"][0]["read"]
    assert read["documents"] == sum(map(len, lines.values()))


def test_items_that_share_a_fact_are_refused(made, tmp_path):
    flags = [*FEW, *SHORT, "--haystack", made / "shards"]
    done("evaluate", "--items-only", *flags, "--seed", "1", "--out", tmp_path / "alone")
    (other,) = (tmp_path / "alone").iterdir()
    shared = json.loads((other / "questions.jsonl").read_text().splitlines()[3])
    done("evaluate", "--items-only", *flags, "--out", tmp_path / "items")
    (first,) = (tmp_path / "items").iterdir()
    with (first / "questions.jsonl").open("a") as file:
        file.write(json.dumps(shared) + "\n")
    outcome = run("evaluate", "--items-only", *flags, "--seed", "1", "--out", tmp_path / "items")
    assert outcome.code == 1
    assert "asks for a fact that another seed asks for too" in outcome.err
    assert f"{first / 'questions.jsonl'}, line" in outcome.err
    (first / "questions.jsonl").write_text("{}\n")
    outcome = run("evaluate", "--items-only", *flags, "--seed", "1", "--out", tmp_path / "items")
    assert outcome.code == 1
    assert "the line is no question of the probe" in outcome.err


def test_a_text_file_as_haystack(made, tmp_path, monkeypatch):
    """If it is large, a person is told what takes so long."""
    texts = [{"text": "All work and no play makes Jack a dull boy. " * 40}]
    book = write_jsonl(tmp_path / "book.jsonl", texts)
    out = tmp_path / "out"
    done("evaluate", made / "model", *FEW, "--tasks", "place", "--haystack", book, "--out", out)
    only = tmp_path / "only"
    monkeypatch.setattr("exactcpt.training.evaluation.inputs.LONG_TO_READ", 1000)
    told = done(
        "evaluate", "--items-only", *FEW, "--tasks", "place", "--haystack", book, "--out", only,
        "--tokenizer", DATA / "tokenizer.json",
    ).err  # fmt: skip
    assert told.startswith("reading a haystack of 0.0 MB of text\n")
    one, other = evaluated(out / "model")["probe-128"], evaluated(only)["probe-128"]
    assert (one / "items.parquet").read_bytes() == (other / "items.parquet").read_bytes()


def test_half_of_the_memory(made, results, tmp_path, monkeypatch):
    """Batches of more than two prompts do not fit; the scores are the same to 1e-4."""
    plain = FolderModel.read

    def read(self, prompts, lengths):
        if len(prompts) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
        return plain(self, prompts, lengths)

    monkeypatch.setattr(FolderModel, "read", read)
    done("evaluate", made / "exact", *FEW, "--lengths", "128", "--out", tmp_path)
    halved, whole = (
        pq.read_table(evaluated(at / "exact")["probe-128"] / "scores.parquet")
        for at in (tmp_path, results)
    )
    assert halved["item"].equals(whole["item"])
    assert halved["logp_gold"].to_pylist() == pytest.approx(
        whole["logp_gold"].to_pylist(), abs=1e-4
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "no model is given"),
        (["--suite", "rule", "x"], "there is no suite 'rule'"),
        (["--tasks", "lambda", "x"], "no task is named 'lambda'"),
        (
            ["--suite", "probe,buckets", "--tasks", "code", "x"],
            "--tasks names no task of the suite buckets",
        ),
        (["--lengths", "100", "x"], "lengths is 100"),
        (["--lengths", "4k,x", "x"], "'x' is not a size"),
        (["--items", "0", "x"], "items is 0"),
        (["nowhere"], "there is no such folder"),
        (["--items-only"], "--items-only needs no model, but a haystack and a folder"),
        (
            ["--items-only", "--suite", "buckets"],
            "--items-only writes items that exactcpt makes; buckets has none",
        ),
        (
            ["--suite", "nolima", "MODEL", "--out", "OUT"],
            "the suite nolima reads data that exactcpt",
        ),
        (["--nolima", "BOOK", "x"], "--nolima is for the suite nolima, which is not evaluated"),
        (["--data", "OUT", "x"], "--data is for the suite standard, which is not evaluated"),
        (["--shots", "3", "x"], "--shots is for the suite standard, which is not evaluated"),
        (["--suite", "standard", "--shots", "-1", "x"], "shots is -1"),
        (["--suite", "standard,nolima", "--tasks", "foo", "x"], "no task is named 'foo'"),
        (["--tokenizer", "x", "x"], "--tokenizer is for --items-only"),
        (["MODEL"], "a folder without a run has no place for results"),
        (["MODEL", "--out", "OUT"], "no haystack is given, and no run whose shards could be one"),
        (["MODEL", "--out", "OUT", "--haystack", "BOOK"], "tells a trained window"),
        (
            ["MODEL", "--out", "OUT", "--haystack", "BOOK", "--suite", "buckets"],
            "the suite buckets reads the validation windows of a shard set",
        ),
        (["RUN", "RUN"], "two models have the same name"),
        (["MODEL@3", "--out", "OUT"], "only a run has a step 3"),
        (["RUN", "--lengths", "4096"], "the haystack has"),
        (["RUN", "--haystack", "moved"], "there is no such haystack"),
        (["--items-only", "--haystack", "BOOK", "--out", "OUT"], "tells a trained window"),
        (
            ["--items-only", "--haystack", "BOOK", "--out", "OUT", "--lengths", "128"],
            "a text file has no tokenizer",
        ),
    ],
)
def test_wrong_usage(made, tmp_path, arguments, error):
    book = tmp_path / "book.txt"
    book.write_text("Call me Ishmael.")
    places = {
        "MODEL": made / "model", "RUN": made / "exact", "OUT": tmp_path / "out", "BOOK": book,
        "MODEL@3": f"{made / 'model'}@3",
    }  # fmt: skip
    outcome = run("evaluate", *(places.get(each, each) for each in arguments))
    assert outcome.code == 2
    assert error in outcome.err
    assert not (tmp_path / "out").exists()
