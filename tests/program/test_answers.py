"""Questions and answers from records to shards: only the answers are targets, everywhere."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import answers
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import TOKENIZER, done, manifest, run, source
from oracles import bucket_by_search
from stores import contents, differing

pytestmark = pytest.mark.slow

WINDOW = 48
RECORDS = answers.records(60)
TEXTS = [f"The tide of day {i} is high." + " And low." * (i % 9) for i in range(25)]
SETTINGS = ["--window", WINDOW, "--tau", 16, "--validation-fraction", 0.2, "--shard-bytes", 8000]


def flags(folder: Path) -> list[str]:
    qa = answers.write(folder / "qa.jsonl", [*RECORDS, {"q": "Unanswered?", "a": "", "c": ""}])
    plain = answers.write(folder / "plain.jsonl", [{"id": t, "text": t} for t in TEXTS])
    return [
        *source("qa", f"{qa},{answers.OPTIONS}", epochs=2),
        *source("plain", plain),
        *("--tokenizer", str(TOKENIZER), "--max-rejected", "0.1"),
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Shard sets with both packings, and the store that both are from."""
    folder = tmp_path_factory.mktemp("answers")
    inputs = flags(folder / "in")
    for packing in ("concat", "best_fit"):
        out = folder / packing
        more = ["--packing", packing, "--store", folder / "store", "--workers", 1]
        done("prepare", *inputs, *SETTINGS, *more, "--out", out)
    return folder


def rows(path: Path) -> list[dict[str, Any]]:
    return pa.ipc.open_file(path).read_all().to_pylist()


def stored(store: Path) -> dict[str, answers.Document]:
    """The documents of a store by id: their ids, and whether each is supervised."""
    found = {}
    for path in sorted((store / "parts").glob("*-????.arrow")):
        for document, index in zip(rows(path), rows(path.with_suffix(".index.arrow")), strict=True):
            ids = document["tokens"]
            found[document["id"]] = ids, answers.is_inside(index["supervised"], len(ids))
    return found


def expected_documents() -> dict[str, answers.Document]:
    questions = {record["id"]: answers.document(record) for record in RECORDS}
    plain = {text: answers.of_pieces([(text, True)]) for text in TEXTS}
    return questions | plain


def test_the_store_has_every_piece_encoded_by_itself(made):
    assert stored(made / "store") == expected_documents()
    found = manifest(made / "store")
    assert found["format_version"] == 2
    assert found["settings"]["sources"]["qa"] == {
        "context": "c",
        "prompt": "q",
        "answer": "a",
        "id": "id",
        "format": "by name",
    }
    assert found["sources"][0]["read"]["rejected"] == {"field 'a' is empty": 1}


def test_both_encoders_agree(made, tmp_path):
    more = ["--tokenizer-backend", "tokenizers", "--workers", 1]
    done("tokenize", *flags(tmp_path), *more, "--out", tmp_path / "store")
    assert stored(tmp_path / "store") == stored(made / "store")


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_shards_have_the_targets_of_a_mask(made, packing):
    """Code by code: what a position sees of its document, if it is in an answer."""
    out = made / packing
    documents = list(expected_documents().items())
    ids = {row["doc_index"]: row["id"] for row in documents_table(out)}
    by_source = {"qa": [0, 0, 0, 0], "plain": [0, 0, 0, 0]}
    seen: dict[str, int] = {}
    for path in sorted((out / "train").glob("*.arrow")):
        table = pa.ipc.open_file(path).read_all()
        for number, row in enumerate(table.to_pylist()):
            chunked: Any = table["loss_weight"].slice(number, 1).combine_chunks()
            codes = chunked.flatten().indices.to_pylist()
            inside = answers.is_inside(row["supervised"], WINDOW)
            segments = zip(row["seq_lengths"], row["doc_index"], row["doc_offset"], strict=True)
            begin = 0
            for length, index, offset in segments:
                here = range(begin, begin + length)
                begin += length
                if index < 0:
                    assert not any(codes[i] or inside[i] for i in here)
                    continue
                name = ids[index]
                tokens, supervised = dict(documents)[name]
                seen[name] = seen.get(name, 0) + length
                for context, at in enumerate(here):
                    assert row["input_ids"][at] == tokens[offset + context]
                    assert inside[at] == supervised[offset + context]
                    counts = context > 0 and supervised[offset + context]
                    bucket = bucket_by_search(context)
                    assert codes[at] == (bucket + 1 if counts else 0)
                    if counts:
                        by_source["plain" if name in TEXTS else "qa"][bucket] += 1
    found = manifest(out)
    assert found["format_version"] == 2
    histograms = {s["name"]: s["splits"]["train"]["histogram"] for s in found["sources"]}
    assert histograms == by_source
    total = [a + b for a, b in zip(*by_source.values(), strict=True)]
    assert found["splits"]["train"]["histogram"] == total
    assert found["splits"]["train"]["targets"] == sum(total)
    twice = {name for name, n in seen.items() if n == 2 * len(dict(documents)[name][0])}
    assert twice == {name for name in seen if name not in TEXTS}


def documents_table(out: Path) -> list[dict[str, Any]]:
    return [
        row for path in (out / "documents").glob("*") for row in pq.read_table(path).to_pylist()
    ]


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_what_if_counts_what_is_packed(made, packing):
    more = ["--packing", packing, "--epochs", "qa=2", *SETTINGS[:-2], "--json"]
    (of_store,) = done("inspect", made / "store", *more).json["subjects"][0]["rows"]
    (of_shards,) = done("inspect", made / packing, "--json").json["subjects"][0]["rows"]
    same = {name: of_store[name] for name in of_store if name not in ("command", "settings")}
    assert same == {name: of_shards[name] for name in same}
    claimed = manifest(made / packing)["splits"]["train"]
    assert [b["targets"] for b in of_store["buckets"]] == claimed["histogram"]
    largest = [0, 0, 0, 0]
    for path in sorted((made / packing / "train").glob("*.arrow")):
        for row in rows(path):
            bounds = [0]
            for length in row["seq_lengths"]:
                bounds.append(bounds[-1] + length)
            contexts = [
                at - begin
                for begin, end in pairwise(bounds)
                for at in range(begin + 1, end)
                if answers.is_inside(row["supervised"], WINDOW)[at]
            ]
            if contexts:
                largest[bucket_by_search(max(contexts))] += 1
    assert of_shards["windows_by_largest"] == largest


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_everything_agrees(made, packing):
    outcome = run("verify", made / packing, "--store", made / "store")
    assert outcome.code == 0, outcome.out


def test_other_weights(made, tmp_path):
    done("reweigh", made / "best_fit", "--alpha", 0.5, "--out", tmp_path / "new")
    assert run("verify", tmp_path / "new", "--store", made / "store").code == 0
    again = ["--packing", "best_fit", "--alpha", 0.5, "--epochs", "qa=2", *SETTINGS]
    done("pack", made / "store", *again, "--workers", 1, "--out", tmp_path / "packed")
    assert not differing(contents(tmp_path / "packed"), contents(tmp_path / "new"))


def test_parquet_has_no_target_in_a_question(made, tmp_path):
    done("convert", made / "concat", "--to", "parquet", "--out", tmp_path / "parquet")
    for path in sorted((tmp_path / "parquet" / "train").glob("*.parquet")):
        shard = made / "concat" / "train" / path.with_suffix(".arrow").name
        for row, original in zip(pq.read_table(path).to_pylist(), rows(shard), strict=True):
            assert row["supervised"] == original["supervised"]
            inside = answers.is_inside(row["supervised"], WINDOW)
            targets = [bucket >= 0 for bucket in row["context_bucket"]]
            assert not any(t and not i for t, i in zip(targets, inside, strict=True))
            assert [weight > 0 for weight in row["loss_weight"]] == targets


def test_a_published_set_tells_of_answers(made, tmp_path):
    for form in ("arrow", "parquet"):
        done("publish", made / "concat", "--format", form, "--out", tmp_path / form)
        assert "`supervised`" in (tmp_path / form / "README.md").read_text()
    assert run("verify", tmp_path / "arrow").code == 0


def test_show_divides_questions_from_answers(made):
    name = RECORDS[1]["id"]
    lines = done("show", made / "best_fit", "--doc", name).out.split("\n")
    asked = next(line for line in lines if "Question" in line)
    cue = next(line for line in lines if "Answer:" in line)
    assert asked.split("│")[0].split()[1] == cue.split("│")[0].split()[1] == "-"
    answered = next(line for line in lines if line.endswith("ships") or " 1 ships" in line)
    assert float(answered.split("│")[0].split()[1]) >= 1


def test_sets_without_answers_stay_as_they_were(tmp_path):
    plain = answers.write(tmp_path / "plain.jsonl", [{"id": t, "text": t} for t in TEXTS])
    inputs = [*source("plain", plain), "--tokenizer", TOKENIZER, "--workers", 1]
    done("prepare", *inputs, *SETTINGS, "--out", tmp_path / "out")
    for folder in ("out", "out.store"):
        assert manifest(tmp_path / folder)["format_version"] == 1
    for path in [*tmp_path.rglob("*.index.arrow"), *tmp_path.rglob("shard-*.arrow")]:
        assert "supervised" not in pa.ipc.open_file(path).schema.names


def test_conversations_and_tables(tmp_path):
    """The same questions as conversations, in Parquet, and as CSV: the same documents."""
    some = [record for record in RECORDS if not record["c"]][:9]
    roles = ("user", "assistant")
    messages = [
        [{"role": r, "content": record[k]} for r, k in zip(roles, "qa", strict=True)]
        for record in some
    ]
    names = [record["id"] for record in some]
    pq.write_table(pa.table({"id": names, "m": messages}), tmp_path / "chat.parquet")
    lines = ["id,q,a", *(f"{r['id']},{r['q']},{r['a']}" for r in some)]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    expected = {record["id"]: answers.document(record) for record in some}
    for options in ("chat.parquet,messages=m", "table.csv,prompt=q,answer=a"):
        out = tmp_path / options.partition(".")[0]
        inputs = ["--source", f"{tmp_path}/{options}", "--tokenizer", TOKENIZER, "--workers", 1]
        done("tokenize", *inputs, "--out", out)
        assert stored(out) == expected


def test_a_template_is_kept_with_the_settings(tmp_path):
    (tmp_path / "form").write_text("Q {prompt}\nA  {answer}\n")
    qa = answers.write(tmp_path / "qa.jsonl", RECORDS[:5])
    options = f"{qa},prompt=q,answer=a,template={tmp_path / 'form'}"
    inputs = ["--source", options, "--tokenizer", TOKENIZER, "--workers", 1]
    done("tokenize", *inputs, "--out", tmp_path / "store")
    assert stored(tmp_path / "store") == {
        r["id"]: answers.of_pieces([(f"Q {r['q']}\nA", False), (f"  {r['a']}", True)])
        for r in RECORDS[:5]
    }
    settings = manifest(tmp_path / "store")["settings"]["sources"]["qa"]
    assert settings["template"] == "Q {prompt}\nA  {answer}"
    (tmp_path / "form").write_text("Q {prompt}\nB  {answer}\n")
    outcome = run("tokenize", *inputs, "--out", tmp_path / "store")
    assert outcome.code != 0
    assert "settings" in outcome.err or "differ" in outcome.err


def test_answers_without_tokens_are_dropped(tmp_path):
    tokenizer = json.loads(Path(TOKENIZER).read_text())
    strip = {"type": "Replace", "pattern": {"String": " vanishes"}, "content": ""}
    former = tokenizer["normalizer"]
    steps = [strip] if former is None else [former, strip]
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": steps}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    records = [{"id": "a", "q": "x", "a": "vanishes"}, {"id": "b", "q": "x", "a": "stays"}]
    qa = answers.write(tmp_path / "qa.jsonl", records)
    inputs = ["--source", f"{qa},prompt=q,answer=a", "--tokenizer", tmp_path / "tokenizer.json"]
    done("tokenize", *inputs, "--workers", 1, "--out", tmp_path / "store")
    assert [*stored(tmp_path / "store")] == ["b"]
    read = manifest(tmp_path / "store")["sources"][0]["read"]
    assert read["dropped"] == {"answer without tokens": 1}


def test_a_conversation_whose_last_answer_has_no_tokens_is_dropped(tmp_path):
    """Else its end token, and all before it from the answer before, would be an answer."""
    tokenizer = json.loads(Path(TOKENIZER).read_text())
    assert tokenizer["normalizer"] is None
    tokenizer["normalizer"] = {
        "type": "Replace", "pattern": {"String": " vanishes"}, "content": "",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    talk = [("user", "x"), ("assistant", "stays"), ("user", "y"), ("assistant", "vanishes")]
    kept = [*talk[:2], ("user", "y"), ("assistant", "stays")]
    records = [
        {"id": name, "m": [{"role": role, "content": text} for role, text in some]}
        for name, some in (("a", talk), ("b", kept))
    ]
    qa = answers.write(tmp_path / "qa.jsonl", records)
    inputs = ["--source", f"{qa},messages=m", "--tokenizer", tmp_path / "tokenizer.json"]
    done("tokenize", *inputs, "--workers", 1, "--out", tmp_path / "store")
    assert [*stored(tmp_path / "store")] == ["b"]
    read = manifest(tmp_path / "store")["sources"][0]["read"]
    assert read["dropped"] == {"answer without tokens": 1}


WRONG = [
    ("text=t,prompt=q,answer=a", "has both text and prompt"),
    ("tokens=t,messages=m", "has both tokens and messages"),
    ("messages=m,prompt=q,answer=a", "has both prompt and messages"),
    ("prompt=q", "has prompt=q and no answer"),
    ("answer=a,context=c", "has answer=a and no prompt"),
    ("prompt=q,answer=q", "takes the field 'q' twice"),
    ("prompt=q,answer=", "answer names no field"),
    ("prompt=q,answer=a,template=", "template names no file"),
    ("prompt=q,answer=a,template=nowhere", "the template cannot be read"),
    ("prompt=q,answer=a,id=q", "uses field 'q' both as id and as document"),
    ("prompt=q,answer=a,contex=c", "unknown option 'contex'"),
]


@pytest.mark.parametrize(("options", "says"), WRONG)
def test_wrong_options(tmp_path, options, says):
    qa = answers.write(tmp_path / "qa.jsonl", RECORDS[:3])
    inputs = ["--source", f"{qa},{options}", "--tokenizer", TOKENIZER]
    outcome = run("tokenize", *inputs, "--out", tmp_path / "store")
    assert outcome.code == 2
    assert says in outcome.err
    assert not (tmp_path / "store").exists()


def test_formats_without_such_fields(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.csv").write_text("m\nx\n")
    for options in ("a.txt,prompt=q,answer=a", "a.csv,messages=m"):
        inputs = ["--source", f"{tmp_path}/{options}", "--tokenizer", TOKENIZER]
        outcome = run("tokenize", *inputs, "--out", tmp_path / "store")
        assert outcome.code == 2
        assert "but is read as" in outcome.err


def test_a_field_that_no_record_has(tmp_path):
    qa = answers.write(tmp_path / "qa.jsonl", RECORDS[:3])
    inputs = ["--source", f"{qa},prompt=question,answer=a", "--tokenizer", TOKENIZER]
    outcome = run("tokenize", *inputs, "--out", tmp_path / "store")
    assert outcome.code == 1
    assert "no record has a field 'question'" in outcome.err
    assert "prompt=FIELD" in outcome.err


def test_a_sample_is_not_inspected(tmp_path):
    qa = answers.write(tmp_path / "qa.jsonl", RECORDS[:3])
    inputs = ["--source", f"{qa},prompt=q,answer=a", "--tokenizer", TOKENIZER]
    outcome = run("inspect", *inputs)
    assert outcome.code == 2
    assert "exactcpt tokenize" in outcome.err


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_answers_cut_off_from_their_prompt_are_warned_of(made, packing):
    documents = expected_documents()
    ids = {row["doc_index"]: row["id"] for row in documents_table(made / packing)}
    answered = cut_off = 0
    for path in sorted((made / packing / "train").glob("*.arrow")):
        for row in rows(path):
            begin = 0
            segments = zip(row["seq_lengths"], row["doc_index"], row["doc_offset"], strict=True)
            for length, index, offset in segments:
                spans = [s for s in row["supervised"] if begin <= s["start"] < begin + length]
                begin += length
                if index >= 0 and not all(documents[ids[index]][1]):
                    answered += len(spans)
                    cut_off += len(spans) * (offset > 0)
    warning = f"{cut_off} of {answered} answers do not see the beginning of their prompt"
    found = manifest(made / packing)["warnings"]
    assert any(text.startswith(warning) for text in found) == bool(cut_off)
    assert bool(cut_off) or packing == "best_fit"
