import os
import sys
from dataclasses import dataclass

import pytest

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.schemas.extras import install_line
from exactcpt.training.run import log
from exactcpt.training.run.boards import open_boards
from exactcpt.training.run.log import (
    LOG,
    RUN,
    Progress,
    RunLog,
    read_log,
    read_run,
    stretches,
    write_run,
    write_whole,
)


def write_steps(run, first: int, last: int, *, after: int = 0) -> None:
    records = RunLog(run, step=after)
    for step in range(first, last + 1):
        records.write("step", {"step": step, "loss": step / 2})
    records.close()


def test_lines(tmp_path):
    write_steps(tmp_path, 1, 2)
    assert (tmp_path / LOG).read_text() == (
        '{"kind": "step", "step": 1, "loss": 0.5}\n{"kind": "step", "step": 2, "loss": 1.0}\n'
    )


def test_steps_after_the_checkpoint_are_taken_again(tmp_path):
    write_steps(tmp_path, 1, 5)
    write_steps(tmp_path, 4, 6, after=3)
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_begins_again(tmp_path):
    write_steps(tmp_path, 1, 5)
    write_steps(tmp_path, 1, 2)
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2]


def test_settings_by_the_steps_they_held_for():
    starts = [(0, "a"), (0, "b"), (4, "c"), (9, "d"), (6, "e"), (6, "f")]
    records = [{"kind": "start", "step": step, "settings": name} for step, name in starts]
    found = stretches([{"kind": "end", "step": 1}, *records])
    assert [(stretch["after"], stretch["settings"]) for stretch in found] == [
        (0, "b"), (4, "c"), (6, "f")
    ]  # fmt: skip


def test_a_line_that_was_not_finished(tmp_path):
    write_steps(tmp_path, 1, 3)
    with (tmp_path / LOG).open("a") as file:
        file.write('{"kind": "step", "st')
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2, 3]
    write_steps(tmp_path, 4, 4, after=3)
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"kind": "step", "st', "Unterminated string"),
        (b'{"kind": "st\xff"}', "it is not UTF-8 at byte 12"),
        (b"null", "it is not an object"),
        (b"5", "it is not an object"),
        (b'{"step": 1}', "it has no kind"),
        (b'{"kind": "step", "step": "1"}', 'step is "1"'),
        (b"", "Expecting value"),
    ],
)
@pytest.mark.parametrize("after", [b"", b'{"kind": "end", "step": 2}\n'])
def test_a_damaged_line(tmp_path, line, reason, after):
    """What follows it is not lost when the run continues."""
    write_steps(tmp_path, 1, 1)
    with (tmp_path / LOG).open("ab") as file:
        file.write(line + b"\n" + after)
    text = (tmp_path / LOG).read_bytes()
    with pytest.raises(FormatError) as caught:
        RunLog(tmp_path, step=2)
    error = caught.value
    assert error.found.startswith(f"a line of the log is damaged: {reason}")
    assert error.where == f"{tmp_path / LOG}, line 2"
    assert error.expected == "an object with kind and step"
    assert error.fix == "restore the file, or remove the line"
    assert (tmp_path / LOG).read_bytes() == text
    RunLog(tmp_path, step=0).close()
    assert read_log(tmp_path) == []


@pytest.mark.parametrize("torn", [b"\0" * 40, b"\0" * 40 + b"\n", b'{"kind": "st\n{"kind": "a'])
def test_a_power_cut_after_the_checkpoint(tmp_path, torn):
    """Lines up to the checkpoint were on the disk; of those after it, anything may be left."""
    write_steps(tmp_path, 1, 3)
    with (tmp_path / LOG).open("ab") as file:
        file.write(torn + b'\n{"kind": "step", "step": 5}\n')
    write_steps(tmp_path, 4, 4, after=3)
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2, 3, 4]


def test_a_record_is_on_the_disk_once_it_is_synced(tmp_path, monkeypatch):
    records = RunLog(tmp_path, step=0)
    records.write("step", {"step": 1})
    sizes: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (sizes.append(os.fstat(fd).st_size), fsync(fd)))
    records.sync()
    assert sizes == [(tmp_path / LOG).stat().st_size]
    assert sizes[0] > 0
    records.close()
    assert len(sizes) == 2


def test_a_flipped_bit_of_the_run_is_found_or_changes_nothing(tmp_path):
    run = {
        "settings": {"rope_theta": 1e6}, "identity": {"seed": 1}, "earlier": None,
        "model_folder": "/m", "longest_window": 64, "buckets": [],
    }  # fmt: skip
    write_run(tmp_path, run)
    path = tmp_path / RUN
    data, found = path.read_bytes(), 0
    for bit in range(0, 8 * len(data), 11):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert read_run(tmp_path).items() >= run.items()
        except FormatError as error:
            found += 1
            assert error.found.startswith(("run.json is damaged: it was", "this folder is not"))
    assert found > len(data) * 8 / 11 * 0.7  # the others are white space, or the checksum's name


def test_a_character_that_was_not_finished(tmp_path):
    write_steps(tmp_path, 1, 2)
    with (tmp_path / LOG).open("ab") as file:
        file.write('{"kind": "eval", "name": "\xe9'.encode()[:-1])
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2]


def test_names_with_other_ends_of_lines(tmp_path):
    name = "a\u2028b\u0085c\rd\ne"
    records = RunLog(tmp_path, step=0)
    records.write("eval", {"step": 1, "name": name})
    records.close()
    assert read_log(tmp_path) == [{"kind": "eval", "step": 1, "name": name}]


def test_no_log(tmp_path):
    assert read_log(tmp_path) == []


def test_files_are_whole_or_absent(tmp_path):
    write_whole(tmp_path / "a" / "b.json", b"one")
    with pytest.raises(TypeError):
        write_whole(tmp_path / "a" / "b.json", "two")  # type: ignore[arg-type]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.json"]
    assert (tmp_path / "a" / "b.json").read_bytes() == b"one"


def test_tensorboard_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError) as caught:
        open_boards(tmp_path, step=0, tensorboard=True, tracker=None, settings={})
    assert caught.value.fix == install_line("tensorboard")


def record(step: int) -> dict:
    return {
        "step": step,
        "loss": 2.25,
        "unweighted_loss": 2.0,
        "gradient_norm": 1.234,
        "clipped": True,
        "learning_rate": 1e-5,
        "tokens_per_second": 12345.6,
        "mfu": 0.3312,
        "memory": 41_230_000_000,
    }


def test_a_line_now_and_then():
    said: list[str] = []
    progress = Progress(said.append, 50, 4096)
    for step in range(1, 51):
        progress.step(record(step))
    assert said == [
        f"step {step} of 50  loss 2.2500  unweighted 2.0000  gradient 1.23 clipped"
        f"  lr 1e-05  {4096 * step:,} of 204,800 tokens  12,346 tokens/s  41.2 GB  MFU 33.1%"
        for step in (1, 50)
    ]


@dataclass
class Clock:
    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_the_time_that_is_left(monkeypatch):
    """The first step compiles, and does not count. The last line claims nothing any more."""
    clock, said = Clock(), list[str]()
    monkeypatch.setattr(log, "time", clock)
    progress = Progress(said.append, 50, 4096)
    for step in range(1, 51):
        clock.now += 100 if step == 1 else 4
        progress.step(record(step))
    assert [line.rpartition("  ")[2] for line in said] == [
        *["MFU 33.1%"] * 3,
        *(f"{4 * n // 60}:{4 * n % 60:02} left" for n in range(46, 0, -1)),
        "MFU 33.1%",
    ]


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
def test_a_line_fits_the_terminal(monkeypatch, width):
    clock, said = Clock(), list[str]()
    monkeypatch.setattr(log, "time", clock)
    monkeypatch.setattr(log, "terminal_width", lambda: width)
    progress = Progress(said.append, 5000, 4096)
    for step in range(1, 20):
        clock.now += 4
        progress.step(record(step))
    assert all(len(line) <= width for line in said)
    assert all(line.startswith(f"step {i} of 5,000") for i, line in enumerate(said, 1))
    assert ("left" in said[-1]) == (width >= 60)
    assert ("tokens/s" in said[-1]) == (width >= 80)


def test_json_has_no_nan(tmp_path):
    records = RunLog(tmp_path, step=0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.write("step", {"step": 1, "loss": float("nan")})
    records.close()
