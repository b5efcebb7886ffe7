"""A published data set: every reader opens it, and nothing of others is touched."""

import contextlib
import gzip
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import datasets
import harness
import pyarrow.parquet as pq
import pytest
import xxhash
import yaml
from handmade import edit_manifest, edit_shard, tokenizer
from harness import done, run
from tiny import shard_set

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.publish import files, job
from exactcpt.pipeline.publish.card import card
from exactcpt.pipeline.publish.settings import PublishConfig
from exactcpt.schemas.manifest import SHARD_SET, parse

FORMATS = ("parquet", "arrow")
SPLITS = ("train", "validation")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("private-name")
    made = shard_set(folder / "shards", windows_per_shard=3)
    shutil.rmtree(f"{made}.store")
    edit_manifest(made, lambda manifest: manifest.update(tokenizer=tokenizer(made)))
    return made


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with its store, which has no validation split."""
    folder = tmp_path_factory.mktemp("prepared")
    flags = harness.small(folder, ["a text of some words"] * 3)
    done("prepare", *flags, "--window", "16", "--out", folder / "set")
    return folder / "set"


@pytest.fixture(scope="module")
def published(shards: Path) -> dict[str, Path]:
    """What `publish` makes of it, by format."""
    folders = {to: shards.with_name(to) for to in FORMATS}
    for to, out in folders.items():
        done("publish", shards, "--out", out, "--format", to, "--title", "Tiny", "--license", "MIT")
    return folders


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def header(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def loaded(folder: Path, name: str | None = None) -> Any:
    found: Any = datasets.load_dataset(str(folder), name)
    return found


def programs(folder: Path) -> list[str]:
    found = re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.M | re.S)
    return [program.replace("PATH", str(folder)) for program in found]


class TestReaders:
    @pytest.mark.parametrize("to", FORMATS)
    def test_datasets_loads_the_windows(self, shards, published, to):
        for name in (None, "windows"):
            found = loaded(published[to], name)
            assert [*found] == [*SPLITS]
            for split in SPLITS:
                rows = [
                    {key: value for key, value in row.items() if key != "context_bucket"}
                    for row in found[split]
                ]
                assert rows == harness.windows(shards, split)

    def test_datasets_loads_the_documents(self, shards, published):
        found = loaded(published["parquet"], "documents")
        assert found["documents"].to_list() == harness.documents(shards)

    @pytest.mark.parametrize("to", FORMATS)
    def test_the_programs_of_the_card_run(self, published, to):
        out = io.StringIO()
        found = programs(published[to])
        assert len(found) == 3
        with contextlib.redirect_stdout(out):
            for program in found:
                exec(compile(program, "README.md", "exec"), {})
        train = harness.windows(published["arrow"])
        tokens: dict[str, int] = dict.fromkeys("ab", 0)
        source = {row["doc_index"]: row["source"] for row in harness.documents(published["arrow"])}
        for row in train:
            for document, length in zip(row["doc_index"], row["seq_lengths"], strict=True):
                if document >= 0:
                    tokens[source[document]] += length
        for name, count in tokens.items():
            assert re.search(rf"│ {name} +│ +{count:,}".replace(",", ""), out.getvalue())
        mean = sum(sum(row["loss_weight"]) for row in train) / len(train)
        assert f"{mean:.2f}" in out.getvalue()

    def test_arrow_is_a_shard_set(self, shards, published):
        folder = published["arrow"]
        found, expected = harness.files(folder), harness.files(shards)
        assert {*found} - {*expected} == {"README.md", "charts.svg"}
        assert [name for name in expected if found[name] != expected[name]] == ["manifest.json"]
        assert harness.manifest(folder) == harness.manifest(shards)
        assert run("verify", folder).code == 0
        assert run("show", folder).code == 0

    def test_the_manifest_of_parquet_is_that_of_the_set(self, shards, published):
        folder = published["parquet"]
        found, whole = harness.manifest(folder), harness.manifest(shards)
        listed = [entry for split in SPLITS for entry in found["shards"][split]]
        for entry in [*listed, *found["documents"]]:
            data = (folder / entry["path"]).read_bytes()
            assert (len(data), xxhash.xxh3_128_hexdigest(data)) == (
                entry["bytes"],
                entry["xxh3_128"],
            )
        was = {**found, "format": SHARD_SET, "shards": whole["shards"]}
        assert parse(json.dumps(was).encode(), "manifest.json", SHARD_SET) == whole
        counts = {s: [e["windows"] for e in found["shards"][s]] for s in SPLITS}
        assert counts == {s: [e["windows"] for e in whole["shards"][s]] for s in SPLITS}

    def test_parquet_is_told_from_a_shard_set(self, published):
        found = run("verify", published["parquet"])
        assert found.code != 0
        for command in (["show"], ["inspect"], ["convert", "--to", "mds", "--out", "x"]):
            found = run(command[0], published["parquet"], *command[1:])
            assert found.code == 2
            assert "this is a shard set that was published as Parquet" in found.err


class TestTheCard:
    @pytest.mark.parametrize("to", FORMATS)
    def test_has_a_header_that_the_hub_reads(self, published, to):
        found = header(published[to])
        assert found["license"] == "mit"
        assert found["pretty_name"] == "Tiny"
        assert found["size_categories"] == ["n<1K"]
        windows = found["configs"][0]
        assert (windows["config_name"], windows["default"]) == ("windows", True)
        names = {"parquet": ["windows", "documents"], "arrow": ["windows"]}[to]
        assert [each["config_name"] for each in found["configs"]] == names

    def test_without_a_licence_says_so(self, shards):
        found = card(harness.manifest(shards), PublishConfig())
        assert "\nlicense: unknown\n" in found
        assert "**Not stated.**" in found
        assert "# a, b: windows of 64 tokens\n" in found

    @pytest.mark.parametrize(
        ("windows", "category"),
        [
            (999, "n<1K"), (1000, "1K<n<10K"), (9999, "1K<n<10K"), (10_000, "10K<n<100K"),
            (10**6, "1M<n<10M"), (10**12 - 1, "100B<n<1T"), (10**12, "n>1T"),
        ],
    )  # fmt: skip
    def test_says_how_large_it_is(self, shards, windows, category):
        manifest = harness.manifest(shards)
        manifest["splits"]["train"]["windows"] = windows
        manifest["splits"]["validation"]["windows"] = 0
        assert f"\n- {category}\n" in card(manifest, PublishConfig())

    @pytest.mark.parametrize(
        ("count", "names"), [(1, "s0"), (4, "s0, s1, s2, s3"), (5, "s0, s1, s2 and 2 more sources")]
    )
    def test_is_named_after_the_sources(self, shards, count, names):
        manifest = harness.manifest(shards)
        manifest["sources"] = [{**manifest["sources"][0], "name": f"s{i}"} for i in range(count)]
        assert f"# {names}: windows of 64 tokens\n" in card(manifest, PublishConfig())

    def test_names_some_of_many_inputs(self, shards):
        manifest = harness.manifest(shards)
        one = {"source": "s0", "bytes": 1, "xxh3_128": None, "skipped": None}
        manifest["inputs"] = [{**one, "path": f"file{i}"} for i in range(101)]
        found = card(manifest, PublishConfig())
        assert "The first 100 of 101 input files; manifest.json has all" in found
        assert "`file99`" in found
        assert "`file100`" not in found

    def test_names_some_of_many_warnings(self, shards):
        manifest = harness.manifest(shards)
        assert "The program warned" not in card({**manifest, "warnings": []}, PublishConfig())
        manifest["warnings"] = [f"warning {i}" for i in range(102)]
        found = card(manifest, PublishConfig())
        assert "- warning 99\n- and 2 more: manifest.json has all\n" in found

    def test_with_names_of_a_stranger_has_a_whole_header(self, shards):
        manifest = harness.manifest(shards)
        manifest["sources"][0]["name"] = "a\n---\n# b: <i>\t|"
        head = card(manifest, PublishConfig()).split("\n---\n")[0]
        name = yaml.safe_load(head.removeprefix("---\n"))["pretty_name"]
        assert name == "a --- # b: <i> |, b: windows of 64 tokens"

    def test_says_how_the_weights_were_made(self, shards):
        manifest = harness.manifest(shards)
        found = card(manifest, PublishConfig())
        assert "Then its weight is 1 + alpha r / R, where" in found
        assert "In the validation split, every target has the weight 1." in found
        manifest["settings"]["max_weight"] = 1.25
        manifest["shards"]["validation"] = []
        found = card(manifest, PublishConfig())
        assert "Then its weight is 1 + lambda r, but at most max_weight, where" in found
        assert "1 + alpha r" not in found
        assert "In the validation split" not in found

    def test_of_given_weights_has_no_formula(self, shards, tmp_path):
        table = json.loads(run("reweigh", shards, "--table-only").out)
        (tmp_path / "table.json").write_text(json.dumps(table))
        done("reweigh", shards, "--table", tmp_path / "table.json", "--out", tmp_path / "given")
        done("publish", tmp_path / "given", "--out", tmp_path / "out")
        found = (tmp_path / "out" / "README.md").read_text()
        assert "The weights were given as a table." in found
        assert "Let q be" not in found

    def test_has_the_picture_and_names_no_private_path(self, shards, published):
        for folder in published.values():
            assert "](charts.svg)" in (folder / "README.md").read_text()
            assert (folder / "charts.svg").read_text().startswith("<svg")
            for path in folder.rglob("*"):
                if path.is_file():
                    assert b"private-name" not in path.read_bytes(), path

    def test_has_no_path_of_the_machine_where_the_corpus_was(self, tmp_path):
        corpus = tmp_path / "private-name" / "corpus"
        (corpus / "sub").mkdir(parents=True)
        for name in ("a", "b"):
            (corpus / "sub" / f"{name}.txt").write_text(f"{name} text " * 9)
        (corpus / "bad.txt.gz").write_bytes(gzip.compress(b"some text")[:-9])
        flags = ["--tokenizer", harness.TOKENIZER, "--window", "16", "--on-bad-file", "skip"]
        done("prepare", *harness.source("a", corpus), *flags, "--out", tmp_path / "shards")
        out = tmp_path / "out"
        done("publish", tmp_path / "shards", "--out", out)
        assert "`sub/a.txt`" in (out / "README.md").read_text()
        assert "left out: bad.txt.gz" in (out / "README.md").read_text()
        shown = [path.read_bytes().decode(errors="replace") for path in out.rglob("*.*")
                 if path.is_file()]  # fmt: skip
        tables = [*out.rglob("*.parquet")]
        assert len(tables) == 2
        shown += [f"{pq.read_table(p).to_pylist()} {pq.read_schema(p)}" for p in tables]
        assert [text for text in shown if "private-name" in text or str(tmp_path) in text] == []


class TestTheFolder:
    def test_stays_when_the_same_command_runs_again(self, shards, tmp_path):
        out = tmp_path / "out"
        done("publish", shards, "--out", out)
        (out / "README.md").write_text("mine")
        before = harness.files(out)
        again = done("publish", shards, "--out", out)
        assert "was finished before" in again.err
        assert harness.files(out) == before

    def test_with_other_settings_is_replaced_only_if_asked(self, shards, tmp_path):
        out = tmp_path / "out"
        done("publish", shards, "--out", out)
        before = harness.files(out)
        found = run("publish", shards, "--out", out, "--format", "arrow")
        assert found.code == 2
        assert 'publish.format: "parquet" -> "arrow"' in found.err
        assert harness.files(out) == before
        done("publish", shards, "--out", out, "--format", "arrow", "--overwrite")
        assert not [*out.rglob("shard*.parquet")]
        assert run("verify", out).code == 0

    @pytest.mark.parametrize("to", FORMATS)
    def test_is_continued_where_it_stopped(self, shards, published, tmp_path, monkeypatch, to):
        out = tmp_path / "out"
        arguments = ("publish", shards, "--out", out, "--format", to, "--title", "Tiny")
        arguments = (*arguments, "--license", "MIT")
        with monkeypatch.context() as patch:
            name = {"parquet": "write_parquet", "arrow": "copy_file"}[to]
            patch.setattr(files, name, failing_after(2, getattr(files, name)))
            assert run(*arguments).code == 1
        assert not (out / "manifest.json").exists()
        written = sorted(out.glob("train/*"))
        assert len(written) == 2
        stamps = [path.stat().st_mtime_ns for path in written]
        found = run("show", out)
        assert found.code == 1
        assert "this published data set is not finished" in found.err
        done(*arguments)
        assert [path.stat().st_mtime_ns for path in written] == stamps
        assert harness.files(out) == harness.files(published[to])

    @pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
    def test_is_no_shard_set_or_store(self, shards, prepared, tmp_path, overwrite):
        for other in (prepared, Path(f"{prepared}.store")):
            before = harness.files(other)
            found = run("publish", shards, "--out", other, *overwrite)
            assert found.code == 2
            assert "`exactcpt publish` has not written here" in found.err
            assert harness.files(other) == before
        copied = Path(shutil.copytree(shards, tmp_path / "copied"))
        assert run("publish", shards, "--out", copied, *overwrite).code == 2
        assert harness.files(copied) == harness.files(shards)

    @pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
    def test_that_holds_something_else_is_kept(self, shards, tmp_path, overwrite):
        (tmp_path / "mine").write_text("mine")
        found = run("publish", shards, "--out", tmp_path, *overwrite)
        assert found.code == 2
        assert "this folder holds other files: mine" in found.err
        assert [*harness.files(tmp_path)] == ["mine"]

    @pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
    def test_whose_record_is_damaged_is_kept(self, shards, tmp_path, overwrite):
        """It may be another job's."""
        out = tmp_path / "out"
        done("publish", shards, "--out", out)
        (out / ".job" / "state.json").write_text("{")
        before = harness.files(out)
        found = run("publish", shards, "--out", out, *overwrite)
        assert found.code == 1
        assert found.err.endswith("fix:      restore the file, or write to another folder\n")
        assert harness.files(out) == before

    def test_is_apart_from_the_set(self, shards):
        assert run("publish", shards, "--out", shards / "out").code == 2
        assert run("publish", shards, "--out", shards).code == 2
        assert not (shards / "out").exists()

    def test_without_validation(self, prepared, tmp_path):
        done("publish", prepared, "--out", tmp_path / "out")
        assert [*loaded(tmp_path / "out")] == ["train"]


def failing_after(count: int, function: Any) -> Any:
    """The function, which fails as a full disk does once it was called so often."""
    calls = 0

    def call(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > count:
            raise OSError(28, "No space left on device")
        return function(*arguments)

    return call


class TestRefused:
    def test_an_unfinished_set(self, shards, tmp_path):
        copied = Path(shutil.copytree(shards, tmp_path / "copied"))
        (copied / "manifest.json").unlink()
        assert run("publish", copied, "--out", tmp_path / "out").code == 2
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("to", FORMATS)
    def test_a_disk_without_room(self, shards, tmp_path, monkeypatch, to):
        """For Parquet, half of what the shards take is room enough."""
        monkeypatch.setattr(job, "can_clone", lambda *_: False)
        manifest = harness.manifest(shards)
        windows = sum(entry["bytes"] for split in SPLITS for entry in manifest["shards"][split])
        documents = sum(entry["bytes"] for entry in manifest["documents"])
        tokens = 64 * sum(manifest["splits"][split]["windows"] for split in SPLITS)
        enough = documents + {"arrow": windows, "parquet": int(2.6 * tokens)}[to]
        for free, code in ((enough - 1000, 1), (enough + 1, 0)):
            monkeypatch.setattr(Folder, "disk", lambda _, free=free: (1, free))
            found = run("publish", shards, "--out", tmp_path / "out", "--format", to)
            assert found.code == code, found.err
            assert ("the disk has too little room" in found.err) == bool(code)

    @pytest.mark.parametrize("to", FORMATS)
    @pytest.mark.parametrize("name", ["train/shard-00001", "documents", "tokenizer"])
    def test_a_damaged_set(self, shards, tmp_path, to, name):
        copied = Path(shutil.copytree(shards, tmp_path / "copied"))
        path = next(p for p in sorted(copied.rglob("*.*")) if name in str(p) and p.is_file())
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
        found = run("publish", copied, "--out", tmp_path / "out", "--format", to)
        assert found.code == 1
        assert not (tmp_path / "out" / "manifest.json").exists()

    @pytest.mark.parametrize("to", FORMATS)
    def test_a_set_of_a_stranger(self, shards, tmp_path, to):
        """Its checksums agree with what is wrong."""
        copied = Path(shutil.copytree(shards, tmp_path / "copied"))

        def edit(columns: dict[str, list[Any]]) -> None:
            columns["input_ids"][0][0] = 1 << 20

        edit_shard(copied, harness.manifest(copied)["shards"]["train"][0]["path"], edit)
        found = run("publish", copied, "--out", tmp_path / "out", "--format", to)
        assert found.code == 1
        assert "has the id 1048576" in found.err

    def test_false_counts(self, shards, tmp_path):
        copied = Path(shutil.copytree(shards, tmp_path / "copied"))

        def edit(manifest: dict[str, Any]) -> None:
            source = manifest["sources"][0]["splits"]["train"]["histogram"]
            for counts in (source, manifest["splits"]["train"]["histogram"]):
                counts[0] -= 1
                counts[1] += 1
            rows = manifest["weights"]["table"]
            rows[0]["targets"] -= 1
            rows[1]["targets"] += 1

        edit_manifest(copied, edit)
        found = run("publish", copied, "--out", tmp_path / "out")
        assert found.code == 1
        assert "histogram" in found.err

    @pytest.mark.parametrize("title", ["", " ", "a\nb", "a\x1b[2J", "a" * 201])
    def test_a_title_that_is_none(self, shards, tmp_path, title):
        found = run("publish", shards, "--out", tmp_path / "out", "--title", title)
        assert found.code == 2
        assert "--title is not a title" in found.err

    @pytest.mark.parametrize("spdx", ["", "my own", "MIT OR Apache-2.0", "-x", "<b>"])
    def test_a_licence_that_is_no_identifier(self, shards, tmp_path, spdx):
        found = run("publish", shards, "--out", tmp_path / "out", f"--license={spdx}")
        assert found.code == 2
        assert "--license is" in found.err
