"""Running the steps of a study, with commands that only pretend."""

import json
from contextlib import suppress
from pathlib import Path

import filelock
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import BASE, Pretender, small

from exactcpt.schemas.errors import ExactcptError, FormatError, UsageError
from exactcpt.training.cli import STOPPED
from exactcpt.training.study import running
from exactcpt.training.study.commands import Command, shown
from exactcpt.training.study.plan import make_plan
from exactcpt.training.study.records import Record, read_record, write_record
from exactcpt.training.study.running import held, run_one, run_steps
from exactcpt.training.study.workers import BUSY

ARMS = [
    {"name": "gradnorm", "weighting": "uniform", "grad_norm_from": "exact"},
    {"name": "uniform"},
    {"name": "matched"},
    {"name": "exact"},
]
STAGES = [{"name": "one", "steps": 3}, {"name": "two", "steps": 3}]


@pytest.fixture(autouse=True)
def no_fork_server(monkeypatch):
    monkeypatch.setattr(running, "prepare_workers", lambda _: None)


class Said(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)


def pretended(monkeypatch, code_of=lambda _: 0, gain_of=lambda *_: 2.0) -> Pretender:
    worker = Pretender(code_of)
    monkeypatch.setattr(running, "Worker", worker)
    monkeypatch.setattr(running, "gain_of", gain_of)
    return worker


def out_of(command: Command) -> str:
    """What a command makes, or the run that it evaluates."""
    return command[command.index("--out") + 1] if "--out" in command else command[1]


def test_every_command_runs_once_in_the_order_of_the_dry_run(tmp_path, monkeypatch):
    study = small(tmp_path, arm=ARMS, stage=STAGES, base=BASE)
    worker = pretended(monkeypatch)
    plan, record_of = run_steps(study, tmp_path, 1, Said())
    assert worker.ran == [command for step in plan.steps for command in step.commands]
    assert all(record_of(step) for step in plan.steps)
    again = pretended(monkeypatch)
    run_steps(study, tmp_path, 1, Said())
    assert again.ran == []


def test_what_was_removed_is_made_again(tmp_path, monkeypatch):
    study = small(tmp_path)
    pretended(monkeypatch)
    run_steps(study, tmp_path, 1, Said())
    (tmp_path / "runs" / "one" / "1" / "exact").rmdir()
    worker = pretended(monkeypatch)
    run_steps(study, tmp_path, 1, Said())
    assert [out_of(command) for command in worker.ran] == ["runs/one/1/exact"] * 2


def test_another_evaluation_is_run_again(tmp_path, monkeypatch):
    pretended(monkeypatch)
    run_steps(small(tmp_path), tmp_path, 1, Said())
    worker = pretended(monkeypatch)
    run_steps(
        small(tmp_path, evaluate={"lengths": [128], "items": 3, "suite": "probe,buckets"}),
        tmp_path,
        1,
        Said(),
    )
    assert len(worker.ran) == 2 * 3 * 2  # trainings find themselves finished


def test_a_base_goes_through_the_gate(tmp_path, monkeypatch):
    gains = {"0": iter([0.5, 0.7]), "1": iter([0.2, 1.5]), "2": iter([])}
    worker = pretended(monkeypatch, gain_of=lambda _, run, *__: next(gains[run.name]))
    said = Said()
    plan, _ = run_steps(small(tmp_path, base=BASE), tmp_path, 1, said)
    steps = [command for command in worker.ran if "runs/base" in shown(command)]
    assert [out_of(command) for command in steps[:8:2]] == [
        "runs/base/0", "runs/base/0", "runs/base/1", "runs/base/1",
    ]  # fmt: skip
    assert {cell.pair.name for cell in plan.cells} == {"1.0", "1.1"}
    assert any(line.startswith("base:1:2  done in 0 s, gain 1.500 nats") for line in said)


def test_bases_that_were_chosen_stay(tmp_path, monkeypatch):
    """A candidate that crashed would pass now, and would put another base out of the results."""

    def code_of(command: Command) -> int:
        return 1 if out_of(command) == "runs/base/0" else 0

    study = small(tmp_path, base=BASE)
    pretended(monkeypatch, code_of)
    plan, _ = run_steps(study, tmp_path, 1, Said())
    again = pretended(monkeypatch)
    same, record_of = run_steps(study, tmp_path, 1, Said())
    assert again.ran == []
    assert [cell.pair.name for cell in same.cells] == [cell.pair.name for cell in plan.cells]
    assert {cell.pair.base for cell in same.cells} == {1}
    failed = record_of(same.steps[1])
    assert failed is not None
    assert failed.reason == "it went wrong"


def test_candidates_are_tried_again_while_bases_are_lacking(tmp_path, monkeypatch):
    study = small(tmp_path, base=BASE)
    pretended(monkeypatch, lambda command: 1 if "runs/base" in shown(command) else 0)
    plan, _ = run_steps(study, tmp_path, 1, Said())
    assert not plan.cells
    pretended(monkeypatch)
    plan, _ = run_steps(study, tmp_path, 1, Said())
    assert {cell.pair.base for cell in plan.cells} == {0}


@pytest.mark.parametrize("before", [0, 1])
def test_what_ended_while_the_study_was_stopped_is_done(tmp_path, monkeypatch, before):
    """init-model and recall-world refuse to make again what they have made.

    A training that ended then still has to be evaluated.
    """
    study = small(tmp_path)
    worker = pretended(monkeypatch)
    wait, left = running.wait, before

    def stopped(sentinels: list[int]) -> list[int]:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return [each for each in wait(sentinels) if isinstance(each, int)]

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(running, "wait", stopped)
        run_steps(study, tmp_path, 1, Said())
    assert len(worker.ran) == 1 + before
    again = pretended(monkeypatch)
    run_steps(study, tmp_path, 1, Said())
    assert len(again.ran) == 2 * 3 * 2  # all trainings and evaluations, and nothing to prepare


def test_a_failure_is_recorded_and_the_rest_goes_on(tmp_path, monkeypatch, capfd):
    def code_of(command: Command) -> int:
        return 1 if out_of(command) == "runs/one/0/exact" else 0

    study = small(tmp_path, arm=ARMS, stage=STAGES)
    pretended(monkeypatch, code_of)
    plan, record_of = run_steps(study, tmp_path, 2, Said())
    records = {step.name: record_of(step) for step in plan.steps}
    failed = records["exact:0:one"]
    assert failed is not None
    assert failed.reason == "it went wrong"
    assert {name for name, record in records.items() if record is None} == {
        "gradnorm:0:one", "exact:0:two", "gradnorm:0:two",
    }  # fmt: skip
    log = tmp_path / "logs" / "one" / "0" / "exact.log"
    error = capfd.readouterr().err
    assert f"exact:0:one  failed: it went wrong (see {log})" in error.splitlines()
    worker = pretended(monkeypatch)  # tried again, and now all is well
    run_steps(study, tmp_path, 1, Said())
    assert len(worker.ran) == 4 * 2


def test_a_command_that_makes_nothing_has_failed(tmp_path, monkeypatch):
    prepare = [{"makes": "other.json", "run": "reweigh s --out table.json"}]
    study = small(tmp_path, prepare=prepare)
    pretended(monkeypatch)
    plan, record_of = run_steps(study, tmp_path, 1, Said())
    record = record_of(plan.steps[0])
    assert record is not None
    assert record.reason == "it has not made other.json"


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_failures_and_interruptions_end_alike(tmp_path_factory, data):
    """What fails decides what is done; when a study is killed, and how many work, does not."""
    study = small(tmp_path_factory.mktemp("file"), arm=ARMS, stage=STAGES, base=BASE)
    everything = [command for step in make_plan(study, lambda _: None, hoped=True).steps
                  for command in step.commands]  # fmt: skip
    bad = data.draw(st.sets(st.sampled_from(everything), max_size=3))

    def code_of(command: Command) -> int:
        return 1 if command in bad else 0

    def outcome(folder: Path) -> dict[str, bool | None]:
        plan, record_of = run_steps(study, folder, jobs, Said())
        found = {step.name: record_of(step) for step in plan.steps}
        return {name: record and record.is_done for name, record in found.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "prepare_workers", lambda _: None)
        jobs = 1
        pretended(patch, code_of)
        straight = outcome(tmp_path_factory.mktemp("straight"))
        folder = tmp_path_factory.mktemp("killed")
        for _ in range(data.draw(st.integers(0, 3))):
            left = data.draw(st.integers(0, 20))

            def killing(command: Command) -> int:
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
                return code_of(command)

            pretended(patch, killing)
            jobs = data.draw(st.integers(1, 4))
            with suppress(KeyboardInterrupt):
                run_steps(study, folder, jobs, Said())
        jobs = data.draw(st.integers(1, 4))
        worker = pretended(patch, code_of)
        assert outcome(folder) == straight
        assert worker.most <= jobs


def test_one_step(tmp_path, monkeypatch):
    study = small(tmp_path)
    worker = pretended(monkeypatch)
    with pytest.raises(UsageError, match=r"exact:1:one needs prepare:table\.json first"):
        run_one(study, tmp_path, "exact:1:one", Said())
    assert run_one(study, tmp_path, "prepare:table.json", Said())
    assert run_one(study, tmp_path, "exact:1:one", Said())
    assert [out_of(command) for command in worker.ran] == [
        "table.json", "runs/one/1/exact", "runs/one/1/exact",
    ]  # fmt: skip
    assert run_one(study, tmp_path, "exact:1:one", Said())
    assert len(worker.ran) == 3
    with pytest.raises(UsageError, match="there is no step 'exact:2:one'") as caught:
        run_one(study, tmp_path, "exact:2:one", Said())
    assert caught.value.fix is not None
    assert "did you mean" in caught.value.fix


def test_a_step_that_fails_by_itself(tmp_path, monkeypatch):
    pretended(monkeypatch, lambda _: 1)
    assert not run_one(small(tmp_path), tmp_path, "prepare:table.json", Said())


def test_a_step_that_another_process_runs_is_waited_for(tmp_path, monkeypatch):
    """Its record is that of the other; then it is not run again."""
    study = small(tmp_path)
    busy = iter([True])

    def code_of(command: Command) -> int:
        if command[0] != "train" or not next(busy, False):
            return 0
        step = next(s for s in make_plan(study, lambda _: None).steps if command in s.commands)
        (tmp_path / step.makes).mkdir(parents=True)
        write_record(tmp_path, step, Record(status="done", seconds=3))
        return BUSY

    worker = pretended(monkeypatch, code_of)
    plan, record_of = run_steps(study, tmp_path, 1, Said())
    assert all(record is not None and record.is_done for record in map(record_of, plan.steps))
    ran = [out_of(command) for command in worker.ran if command[0] == "train"]
    assert len(ran) == len({*ran}) == 3 * 2


def test_a_training_that_was_stopped_from_outside_is_no_step_of_another(tmp_path, monkeypatch):
    pretended(monkeypatch, lambda command: STOPPED if command[0] == "train" else 0)
    plan, record_of = run_steps(small(tmp_path), tmp_path, 1, Said())
    records = [record_of(step) for step in plan.steps if step.training]
    assert [record and record.status for record in records] == ["failed"] * len(records)
    assert records


def test_two_studies_exclude_each_other(tmp_path):
    with (
        filelock.FileLock(tmp_path / ".lock"),
        pytest.raises(ExactcptError, match="another study is at work") as caught,
        held(tmp_path),
    ):
        pass
    assert caught.value.where == str(tmp_path)
    with held(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"commands": 3}', '{"commands": [], "x": 1}'])
def test_a_damaged_record(tmp_path, monkeypatch, text):
    study = small(tmp_path)
    pretended(monkeypatch)
    plan, _ = run_steps(study, tmp_path, 1, Said())
    path = tmp_path / "steps" / "one" / "0" / "exact.json"
    assert json.loads(path.read_text())["step"] == "exact:0:one"
    step = next(step for step in plan.steps if step.name == "exact:0:one")
    path.write_text(text)
    if text == '{"commands": [], "x": 1}':
        assert read_record(tmp_path, step) is None
    else:
        with pytest.raises(FormatError, match="the record of a step cannot be read"):
            read_record(tmp_path, step)
