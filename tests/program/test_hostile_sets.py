"""Shard sets of strangers: every reader refuses what is wrong with them, in words.

Each entry of DAMAGE makes one thing of a good set wrong, and names the readers that need that
thing. Manifests agree with the damaged files, as they would if somebody meant it: no checksum
helps. Whoever needs the thing refuses it; nobody crashes, hangs, takes much memory, or calls it an
internal error.
"""

import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import handmade
import numpy as np
import pyarrow as pa
import pytest
from forked import forked
from handmade import edit_manifest, edit_shard, refresh_checksums, tokenizer
from tiny import shard_set

from exactcpt.pipeline.cli import run_command
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.shard_set.recognize import open_shard_set
from exactcpt.pipeline.shard_set.windows import read_segments, read_windows
from exactcpt.pipeline.verify import verify
from exactcpt.schemas import shard
from exactcpt.schemas.errors import ExactcptError
from exactcpt.schemas.shard_set import open_set
from exactcpt.training.windows.batches import ShardDataset

pytestmark = pytest.mark.slow

FIRST = "train/shard-00000-of-00002.arrow"
ALL = {"verify", "show", "inspect", "reweigh", "publish", "train"}
TOKENS = ALL - {"inspect"}  # who reads tokens
REFUSED, READ = "refused", "read"

Damage = Callable[[Path], object]


# The readers


def readers(folder: Path, scratch: Path) -> dict[str, Callable[[], str]]:
    """What each reader says of a set: that it was read, or why it was refused."""
    shards = str(folder)
    return {
        "verify": lambda: command("verify", shards),
        "show": lambda: command("show", shards, "--window", "0"),
        "inspect": lambda: command("inspect", shards, "--by-source"),
        "reweigh": lambda: command("reweigh", shards, "--alpha", "0.3", "--out", str(scratch)),
        "publish": lambda: published(shards, f"{scratch}-published"),
        "train": lambda: trained(folder),
    }


def command(*arguments: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = run_command(arguments)
    assert "internal error" not in out.getvalue(), out.getvalue()
    return READ if code == 0 else f"{REFUSED} {out.getvalue()[-2000:]}"


def published(shards: str, out: str) -> str:
    """Without the picture: what draws it takes more memory than a reader may here."""
    with patch("exactcpt.pipeline.inspection.report.svg", return_value="<svg/>"):
        return command("publish", shards, "--out", out)


def trained(folder: Path) -> str:
    """What a run does with its shards: it checks them, and reads every window."""
    try:
        opened = open_set(folder)
        opened.check_contents()
        opened.check_counts()
        for split in shard.SPLITS:
            windows = ShardDataset(opened, split=split)
            batch = windows.batch(range(len(windows)))
            assert np.isfinite(batch.sum_w)
    except ExactcptError as error:
        return f"{REFUSED} {error}"
    return READ


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = shard_set(tmp_path_factory.mktemp("good") / "shards")
    shutil.rmtree(f"{folder}.store")  # shards stand alone here
    edit_manifest(folder, lambda manifest: manifest.update(tokenizer=tokenizer(folder)))
    for read in readers(folder, folder.with_name("new")).values():
        assert read() == READ  # now all that they import is here, and in the forks
    return folder


def test_a_good_set_is_read_by_all(good, tmp_path):
    assert forked(readers(good, tmp_path / "new")) == dict.fromkeys(ALL, READ)


# What is wrong


@dataclass(frozen=True, kw_only=True)
class Case:
    damage: Damage
    refuse: set[str]
    says: str = ""


CASES: dict[str, Case] = {}


def damage(refuse: set[str] = ALL, says: str = "") -> Callable[[Damage], Damage]:
    def register(function: Damage) -> Damage:
        CASES[function.__name__] = Case(damage=function, refuse=refuse, says=says)
        return function

    return register


def manifests(name: str, edit: Callable[[Any], object], refuse: set[str] = ALL) -> None:
    CASES[name] = Case(damage=lambda folder: edit_manifest(folder, edit), refuse=refuse)


def shards(name: str, edit: Callable[[Any], object], refuse: set[str], says: str = "") -> None:
    CASES[name] = Case(
        damage=lambda folder: edit_shard(folder, FIRST, edit), refuse=refuse, says=says
    )


def text(name: str, change: Callable[[str], str | bytes], says: str) -> None:
    def rewrite(folder: Path) -> None:
        changed = change((folder / "manifest.json").read_text())
        data = changed if isinstance(changed, bytes) else changed.encode()
        (folder / "manifest.json").write_bytes(data)

    CASES[name] = Case(damage=rewrite, refuse=ALL, says=says)


def first(m: Any) -> Any:
    return m["shards"]["train"][0]


# Paths

for path in (
    "{}/elsewhere.arrow", "../elsewhere.arrow", "train/../../elsewhere.arrow", "http://127.0.0.1:9/x",
    "file://{}/elsewhere.arrow", "train/a\0b", "", "train", "/dev/zero", "train/\x1b[2J.arrow", ".",
):  # fmt: skip

    def elsewhere(folder: Path, path: str = path) -> None:
        shutil.copy(folder / FIRST, folder.parent / "elsewhere.arrow")
        edit_manifest(folder, lambda m: first(m).update(path=path.format(folder.parent)))

    CASES[f"the path {path!r}"] = Case(damage=elsewhere, refuse=ALL, says="does not match")


@damage(says="leads out of its folder")
def a_link_out_of_the_set(folder: Path) -> None:
    (folder / FIRST).rename(folder.parent / "elsewhere.arrow")
    (folder / FIRST).symlink_to(folder.parent / "elsewhere.arrow")


@damage(says="this is a device")
def a_link_to_a_device(folder: Path) -> None:
    edit_manifest(folder, lambda m: first(m).update(bytes=0, windows=1))
    (folder / FIRST).unlink()
    (folder / FIRST).symlink_to("/dev/zero")


# Files that are none


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@damage(says="named pipe")
def a_pipe_for_a_manifest(folder: Path) -> None:
    pipe(folder / "manifest.json")


@damage()
def a_pipe_for_a_shard(folder: Path) -> None:
    pipe(folder / FIRST)


@damage(refuse=TOKENS, says="named pipe")
def a_pipe_for_a_tokenizer(folder: Path) -> None:
    pipe(folder / "tokenizer.json")


@damage(says="a folder")
def a_folder_for_a_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()


# The manifest's text

text("NaN", lambda t: t.replace('"alpha": 0.15', '"alpha": NaN', 1), "NaN is not a JSON number")
text("1e999", lambda t: t.replace('"alpha": 0.15', '"alpha": 1e999', 1), "1e999 is too large")
text("a key twice", lambda t: t.replace("{", '{"format_version": 9, ', 1), "twice")
text("deep", lambda t: '{"x":' + "[" * 200_000 + "]" * 200_000 + "}", "nested in more than")
text("not so deep", lambda t: '{"x":' + "[" * 200 + "]" * 200 + "}", "nested in more than")
text("digits", lambda t: t.replace('_version": 1', '_version": ' + "9" * 5000, 1), "more than 40")
text("UTF-16", lambda t: t.encode("utf-16"), "not UTF-8")
text("UTF-8 with a mark", lambda t: t.encode("utf-8-sig"), "not JSON")
text("bytes", lambda t: bytes(range(256)), "not UTF-8")
text("a list", lambda t: "[]", "")
text("nothing", lambda t: "", "not JSON")

# The manifest's numbers

for name, edit in {
    "windows of 2^62": lambda m: first(m).update(windows=2**62),
    "windows of 10^30": lambda m: first(m).update(windows=10**30),
    "one window more": lambda m: first(m).update(windows=first(m)["windows"] + 1),
    "a window of 2^40": lambda m: m["settings"].update(window=2**40),
    "a window of 2^31": lambda m: m["settings"].update(window=2**31),
    "a window of 7": lambda m: m["settings"].update(window=7),
    "a window of 64.0": lambda m: m["settings"].update(window=64.0),
    "another histogram": lambda m: m["splits"]["train"]["histogram"].__setitem__(0, 5),
    "a histogram of 2^70": lambda m: m["splits"]["train"]["histogram"].__setitem__(0, 2**70),
    "a weight of 1e308": lambda m: m["weights"]["table"][0].update(weight=1e308),
    "a weight of 1e-60": lambda m: m["weights"]["table"][0].update(weight=1e-60),
    "a weight below 0": lambda m: m["weights"]["table"][0].update(weight=-1.0),
    "a weight of 0": lambda m: m["weights"]["table"][0].update(weight=0),
    "a bucket up to 2^60": lambda m: m["weights"]["table"][0].update(high=2**60),
    "ids up to 2^40": lambda m: m["tokenizer"].update(largest_id=2**40),
    "windows that are true": lambda m: m["splits"]["train"].update(windows=True),
    "alpha in words": lambda m: m["settings"].update(alpha="1"),
    "one bucket": lambda m: m["weights"].update(table=m["weights"]["table"][:1]),
    "a shard twice": lambda m: m["shards"]["train"].append(first(m)),
}.items():
    manifests(name, edit)


@damage(refuse=ALL - {"show"}, says="histogram")
def a_histogram_that_agrees_with_itself(folder: Path) -> None:
    """Three targets are moved from the first to the second bucket, everywhere in the manifest."""

    def edit(m: Any) -> None:
        split = m["splits"]["train"]
        for counts in (split["histogram"], m["sources"][0]["splits"]["train"]["histogram"]):
            counts[0] -= 3
            counts[1] += 3
        for row, count in zip(m["weights"]["table"], split["histogram"], strict=True):
            row["targets"] = count

    edit_manifest(folder, edit)


# The shard's values


def lengths(edit: Callable[[list[int]], list[int]], *others: str) -> Callable[[Any], object]:
    """Edits the segments' lengths in the first window, and as many entries of other columns."""

    def change(columns: Any) -> None:
        row = columns["seq_lengths"][0]
        columns["seq_lengths"][0] = edit(list(row))
        for name in others:
            entries = columns[name][0]
            columns[name][0] = (entries * 9)[: len(columns["seq_lengths"][0])]

    return change


SEGMENTS = ("doc_index", "doc_offset")
NO_SUM = "do not add up"
for name, edit in {
    "lengths that do not sum": lengths(lambda r: [r[0] - 1, *r[1:]]),
    "a length of 2^31 - 1": lengths(lambda r: [2**31 - 1, *r[1:]]),
    "a length below 0": lengths(lambda r: [-5, r[0] + 5, *r[1:]], *SEGMENTS),
    "a length of 0": lengths(lambda r: [0, *r], *SEGMENTS),
    "no length": lengths(lambda r: []),
    "lengths merged": lengths(lambda r: [sum(r)], *SEGMENTS),
    "lengths split": lengths(lambda r: [1, r[0] - 1, *r[1:]], *SEGMENTS),
    "an offset below 0": lambda c: c["doc_offset"][0].__setitem__(0, -3),
    "a document below -1": lambda c: c["doc_index"][0].__setitem__(0, -7),
    "a document too few": lambda c: c["doc_index"].__setitem__(0, c["doc_index"][0][1:]),
    "padding in the middle": lambda c: c["doc_index"][0].__setitem__(0, -1),
}.items():
    shards(name, edit, ALL)

for name, edit in {
    "an id too large": lambda c: c["input_ids"][0].__setitem__(5, 2**31 - 1),
    "an id below 0": lambda c: c["input_ids"][0].__setitem__(5, -7),
    "a code without a weight": lambda c: c["codes"][0].__setitem__(5, 250),
    "a code of another bucket": lambda c: c["codes"][0].__setitem__(5, 3),
    "a target that is none": lambda c: c["codes"][0].__setitem__(5, 0),
    "a weight of NaN": lambda c: c["dictionary"].__setitem__(2, float("nan")),
    "a weight of another table": lambda c: c["dictionary"].__setitem__(2, 3e38),
    "a weight for no target": lambda c: c["dictionary"].__setitem__(0, 5.0),
    "too few weights": lambda c: c.update(
        dictionary=c["dictionary"][:3], codes=[[min(x, 2) for x in row] for row in c["codes"]]
    ),
}.items():
    shards(name, edit, TOKENS)


# The shard's bytes


def patched(folder: Path, change: Callable[[bytearray], object]) -> None:
    data = bytearray((folder / FIRST).read_bytes())
    change(data)
    (folder / FIRST).write_bytes(data)
    refresh_checksums(folder)


def offsets(folder: Path, edit: Callable[[Any], object]) -> None:
    """Edits the offsets of the list of segments, where they are in the file."""
    batch: Any = pa.ipc.open_file((folder / FIRST).read_bytes()).get_batch(0)
    old = np.asarray(batch.column("seq_lengths").offsets)
    new = old.copy()
    edit(new)
    patched(folder, lambda data: put(data, old.tobytes(), new.tobytes()))


def put(data: bytearray, old: bytes, new: bytes) -> None:
    at = data.find(old)
    assert at >= 0
    data[at : at + len(new)] = new


@damage()
def offsets_past_the_end(folder: Path) -> None:
    offsets(folder, lambda o: o.__setitem__(slice(1, None), 2**31 - 1))


@damage()
def offsets_below_0(folder: Path) -> None:
    offsets(folder, lambda o: o.__setitem__(1, -(2**30)))


@damage()
def offsets_that_fall(folder: Path) -> None:
    offsets(folder, lambda o: o.__setitem__(1, o[-1]))


@damage(refuse=TOKENS)
def a_buffer_of_2_to_the_50_bytes(folder: Path) -> None:
    rows = handmade.read_manifest(folder)["shards"]["train"][0]["windows"]
    place, size = (0).to_bytes(8, "little"), (rows * 64 * 4).to_bytes(8, "little")
    patched(folder, lambda data: put(data, place + size, place + (2**50).to_bytes(8, "little")))


@damage()
def a_body_of_2_to_the_60_bytes(folder: Path) -> None:
    def edit(data: bytearray) -> None:
        footer = len(data) - 10 - int.from_bytes(data[-10:-6], "little")
        for i in range(footer, len(data) - 10, 4):
            value = int.from_bytes(data[i : i + 8], "little")
            if 1000 < value < len(data) and value % 8 == 0:
                data[i : i + 8] = (2**60).to_bytes(8, "little")

    patched(folder, edit)


@damage()
def metadata_flipped(folder: Path) -> None:
    patched(folder, lambda data: put(data, data[100:900], bytes(b ^ 0x55 for b in data[100:900])))


@damage()
def half_a_shard(folder: Path) -> None:
    patched(folder, lambda data: data.__delitem__(slice(len(data) // 2, None)))


@damage()
def no_bytes(folder: Path) -> None:
    patched(folder, lambda data: data.clear())


@damage()
def a_stream_and_not_a_file(folder: Path) -> None:
    table = pa.ipc.open_file((folder / FIRST).read_bytes()).read_all()
    with pa.ipc.new_stream(folder / FIRST, table.schema) as writer:
        writer.write_table(table)
    refresh_checksums(folder)


@damage(says="compressed")
def a_compressed_shard(folder: Path) -> None:
    edit_shard(folder, FIRST, lambda columns: None, compression="zstd")


@damage()
def a_bomb(folder: Path) -> None:
    """A gigabyte of zeros in some kilobytes, which the manifest describes as it is."""
    windows = (1 << 30) // 4 // 64
    reader = pa.ipc.open_file((folder / FIRST).read_bytes())
    schema, column = reader.schema, reader.get_batch(0).column("loss_weight")
    weights: Any = column

    def zeros(kind: Any) -> Any:
        return pa.array(np.zeros(windows * 64, kind))

    codes = pa.DictionaryArray.from_arrays(zeros(np.uint8), weights.flatten().dictionary)
    bounds = pa.array(np.arange(windows + 1, dtype=np.int32))

    def one(name: str, value: int, kind: Any) -> Any:
        values = pa.array(np.full(windows, value, kind))
        return pa.ListArray.from_arrays(bounds, values, type=schema.field(name).type)

    columns = [
        pa.FixedSizeListArray.from_arrays(zeros(np.int32), type=schema.field("input_ids").type),
        pa.FixedSizeListArray.from_arrays(codes, type=schema.field("loss_weight").type),
        one("seq_lengths", 64, np.int32),
        one("doc_index", 0, np.int64),
        one("doc_offset", 0, np.int64),
    ]
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(folder / FIRST, schema, options=options) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    refresh_checksums(folder)
    edit_manifest(folder, lambda m: first(m).update(windows=windows))


@damage(refuse={"verify", "show", "inspect"})
def documents_that_are_none(folder: Path) -> None:
    for path in (folder / "documents").iterdir():
        path.write_bytes(b"PAR1" + random.Random(0).randbytes(3000) + b"PAR1")
    refresh_checksums(folder)


@damage(refuse={"verify", "show"})
def documents_of_2_to_the_60_rows(folder: Path) -> None:
    edit_manifest(folder, lambda m: m["documents"][0].update(rows=2**60))


@damage(refuse=TOKENS)
def another_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


@damage(refuse=TOKENS)
def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_refused(good, tmp_path, name):
    case, folder = CASES[name], Path(shutil.copytree(good, tmp_path / "set"))
    case.damage(folder)
    found = forked(readers(folder, tmp_path / "new"))
    wrong = {n: said for n, said in found.items() if not said.startswith((READ, REFUSED))}
    assert wrong == {}
    refused = {n for n, said in found.items() if said.startswith(REFUSED)}
    assert case.refuse <= refused, found
    assert case.says in " ".join(found.values()), found
    assert not (tmp_path / "new" / "manifest.json").exists() or "reweigh" not in refused


# Links that are fine


def test_a_set_behind_a_link(good, tmp_path):
    (tmp_path / "link").symlink_to(good)
    assert forked(readers(tmp_path / "link", tmp_path / "new")) == dict.fromkeys(ALL, READ)


def test_links_inside_the_set(good, tmp_path):
    folder = Path(shutil.copytree(good, tmp_path / "set"))
    (folder / FIRST).rename(folder / "train" / ".kept")
    (folder / FIRST).symlink_to(".kept")
    assert forked(readers(folder, tmp_path / "new")) == dict.fromkeys(ALL, READ)


def test_a_snapshot_of_a_hub_cache(good, tmp_path):
    """All files of a snapshot are links into the folder of contents beside the snapshots."""
    snapshot, blobs = tmp_path / "datasets--x" / "snapshots" / "abc", tmp_path / "datasets--x/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(p for p in sorted(good.rglob("*")) if p.is_file()):
        shutil.copy(path, blobs / str(number))
        link = snapshot / path.relative_to(good)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    assert forked(readers(snapshot, tmp_path / "new")) == dict.fromkeys(ALL, READ)


# Bits and bytes at random


def flips(folder: Path) -> Iterator[tuple[str, int]]:
    """Every file of a set, and some of its bits."""
    draw = random.Random(1)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        for _ in range(4):
            yield str(path.relative_to(folder)), draw.randrange(8 * path.stat().st_size)


def test_a_flipped_bit(good, tmp_path):
    """verify finds each but in the manifest, where some are words; no reader fails otherwise."""
    folder = Path(shutil.copytree(good, tmp_path / "set"))

    def all_flips() -> list[str]:
        wrong: list[str] = []
        for name, bit in flips(folder):
            data = (folder / name).read_bytes()
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            (folder / name).write_bytes(changed)
            for reader, read in readers(folder, tmp_path / "new").items():
                try:
                    said = read()
                except Exception as error:
                    wrong.append(f"{reader}, {name}, bit {bit}: {type(error).__name__}: {error}")
                    continue
                if said == READ and reader == "verify" and name != "manifest.json":
                    wrong.append(f"{reader}, {name}, bit {bit}: not found")
            shutil.rmtree(tmp_path / "new", ignore_errors=True)
            (folder / name).write_bytes(data)
        return wrong

    assert forked({"flips": all_flips}, seconds=60) == {"flips": []}


ODD = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**70, 1.5, -0.0, 1e308, "", "x", "../../etc/passwd",
    "/dev/zero", "\x1b[31m", [], {}, [[]], {"a": 1}, [None], "a" * 1000, 0.1, 3,
]  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*at, key))


def read_all(folder: Path) -> None:
    """What every reader does first, without the commands around it."""
    shards = Folder(str(folder))
    manifest = open_shard_set(shards)
    list(read_segments(shards, manifest, shard.TRAIN))
    list(read_windows(shards, manifest, shard.TRAIN, [0, 1]))


FUZZED: dict[str, Callable[[Path], object]] = {
    "pipeline": read_all,
    "train": trained,
    "verify": lambda folder: verify(str(folder)),
}


def unexpected(folder: Path) -> list[str]:
    """The errors of readers that are no words for a person."""
    found: list[str] = []
    for name, read in FUZZED.items():
        try:
            read(folder)
        except ExactcptError:
            continue
        except Exception as error:
            found.append(f"{name}: {type(error).__name__}: {error}")
    return found


@pytest.mark.parametrize("seed", range(3))
def test_odd_manifests(good, tmp_path, seed):
    folder, draw = Path(shutil.copytree(good, tmp_path / "set")), random.Random(seed)
    text = (folder / "manifest.json").read_text()
    every = list(places(json.loads(text)))

    def some() -> list[str]:
        wrong: list[str] = []
        for _ in range(60):
            manifest = json.loads(text)
            at, value = draw.choice(every), draw.choice(ODD)
            inner = manifest
            for key in at[:-1]:
                inner = inner[key]
            inner[at[-1]] = value
            (folder / "manifest.json").write_text(json.dumps(manifest))
            wrong += [f"{at} = {value!r:.40}: {each}" for each in unexpected(folder)]
        return wrong

    assert forked({"manifests": some}, seconds=60) == {"manifests": []}


@pytest.mark.parametrize("seed", range(3))
def test_odd_shards(good, tmp_path, seed):
    folder, draw = Path(shutil.copytree(good, tmp_path / "set")), random.Random(seed)
    data = (folder / FIRST).read_bytes()
    footer = len(data) - 10 - int.from_bytes(data[-10:-6], "little")
    regions = [(0, 2500), (footer, len(data)), (0, len(data))]

    def some() -> list[str]:
        wrong: list[str] = []
        for number in range(60):
            changed = bytearray(data)
            for _ in range(draw.choice([1, 1, 2, 4])):
                at = draw.randrange(*draw.choice(regions))
                size = draw.choice([1, 4, 8])
                odd = draw.choice([0, 1, -1, 127, -128, draw.randrange(-(2 ** (8 * size - 1)), 0)])
                changed[at : at + size] = odd.to_bytes(size, "little", signed=True)
            (folder / FIRST).write_bytes(changed[: len(data)])
            refresh_checksums(folder)
            wrong += [f"shard {number}: {each}" for each in unexpected(folder)]
        return wrong

    assert forked({"shards": some}, seconds=60) == {"shards": []}
