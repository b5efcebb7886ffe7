"""`exactcpt study` as its users run it, on runs whose results are made up."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from recorded_runs import write_probe
from studies import BASE, HandMadeRuns, written

from exactcpt.pipeline.cli import run_command
from exactcpt.schemas.errors import ExactcptError
from exactcpt.training.comparison import intervals
from exactcpt.training.evaluation.config import TASKS
from exactcpt.training.study import cli, running, workers

ARMS = [{"name": "uniform"}, {"name": "matched"}, {"name": "near"}, {"name": "exact"}]
FAR = {"endpoint": "probe.far", "arm": "exact", "against": ["uniform", "near"], "claim": "greater"}
NEAR = {"endpoint": "probe.near", "arm": "exact", "against": ["uniform"], "claim": "equivalent"}
MADE: dict[str, Any] = {"arm": ARMS, "primary": [FAR, NEAR], "evaluate": {"lengths": [512]},
                        "study": {"name": "made up", "seeds": 3, "floor": "matched",
                                  "differs": ["everything is made up"]}}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(running, "prepare_workers", lambda _: None)
    monkeypatch.setattr(intervals, "RESAMPLES", 500)


def gain(flags: dict[str, str], distance: int) -> float:
    """Evidence is worth less when it is far, but not after `exact`; seeds and bases differ."""
    seed = int(flags["--seed"])
    base = int(flags.get("--init-from", "base/0")[-1])
    own = {"exact": 0.5 if distance >= 128 else 0.001, "near": -0.01}
    effect = own.get(flags["--arm"], 0.0)
    noise = 0.01 * math.sin(13 * seed + 5 * base + distance + len(flags["--arm"]))
    return 4 - math.log2(distance) / 2 + base + effect + noise + 0.1 * seed


def study(monkeypatch, path: Path, out: Path, *more: str, code_of=lambda _: 0, gain_of=gain) -> int:
    monkeypatch.setattr(running, "Worker", HandMadeRuns(gain_of, code_of))
    return run_command(["study", str(path), "--out", str(out), *more])


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


def test_a_study(tmp_path, monkeypatch, capfd):
    path, out = written(tmp_path, **MADE), tmp_path / "out"
    assert study(monkeypatch, path, out) == 0
    found = results(out)
    assert [each["outcome"] for each in found["verdicts"]] == ["supported"] * 3
    (stage,) = found["stages"]
    assert stage["paired"]
    assert stage["compared"] == ["0", "1", "2"]
    (evaluation,) = stage["evaluations"]
    assert evaluation["seeds"] == 3
    far = found["verdicts"][0]
    by_seed = [
        sum(
            gain({"--seed": str(s), "--arm": "exact"}, d)
            - gain({"--seed": str(s), "--arm": "uniform"}, d)
            for d in (128, 256)
        ) / 2
        for s in range(3)
    ]  # fmt: skip
    assert far["difference"] == pytest.approx(sum(by_seed) / 3)
    assert far["half_width"] == pytest.approx(intervals.half_width(by_seed))
    printed = capfd.readouterr().out
    assert "everything is made up" in printed
    assert "noise floor" in printed
    assert re.search(r"exact is greater\s+than uniform: supported", printed)
    text = (out / "table.txt").read_text()
    assert text.index("What differs from the paper") < text.index("Gain of the evidence")
    assert text.splitlines()[-1].strip().endswith("power)")
    assert (out / "gains.svg").read_text().startswith("<svg")
    assert max(map(len, text.splitlines())) <= 120


def test_a_setting_of_an_arm_is_wanted_but_other_windows_are_no_pair(tmp_path, monkeypatch, capfd):
    """A control with another learning rate is a pair; an arm with larger batches is not."""
    arms = [*ARMS[:3], {"name": "lr", "weighting": "uniform", "learning_rate": 2e-5}]
    made = MADE | {"primary": [FAR | {"arm": "near", "against": ["lr"]}], "arm": arms}
    assert study(monkeypatch, written(tmp_path, **made), tmp_path / "alike") == 0
    found = results(tmp_path / "alike")
    assert found["stages"][0]["paired"]
    assert found["verdicts"][0]["pairs"] == 3
    assert "not paired" not in capfd.readouterr().out
    arms[-1] = {"name": "lr", "weighting": "uniform", "global_batch": 128}
    assert study(monkeypatch, written(tmp_path, **made), tmp_path / "unlike") == 0
    found = results(tmp_path / "unlike")
    assert not found["stages"][0]["paired"]
    assert [(v["outcome"], v["pairs"], v["unlike"]) for v in found["verdicts"]] == [
        ("no verdict", 0, 3)
    ]
    printed = " ".join(capfd.readouterr().out.split())
    assert "near is greater than lr: no verdict (the two runs of each pair were trained" in printed


def test_windows_of_an_earlier_stage_count(tmp_path, monkeypatch):
    """Arms that were trained on other windows are no pair after a stage that is alike for all."""
    arms = [*ARMS[:3], {"name": "large", "weighting": "exact", "global_batch": 128}]
    stages = [{"name": "one", "steps": 3}, {"name": "two", "steps": 3, "weighting": "uniform"}]
    far = {"endpoint": "probe.far", "stage": "two", "claim": "greater", "against": ["uniform"]}
    primaries = [far | {"arm": "near"}, far | {"arm": "large"}]
    made = MADE | {"stage": stages, "arm": arms, "primary": primaries}
    path = written(tmp_path, **made)
    assert study(monkeypatch, path, tmp_path / "out", gain_of=lambda _, distance: -distance) == 0
    found = [(v["pairs"], v["unlike"]) for v in results(tmp_path / "out")["verdicts"]]
    assert found == [(3, 0), (0, 3)]


def test_a_study_is_whole_without_a_candidate_that_failed(tmp_path, monkeypatch):
    """The exit code is that of a study that is whole; the table tells of the failure."""

    def code_of(command: list[str]) -> int:
        return 1 if "runs/base/0" in command else 0

    made = MADE | {"base": BASE | {"gate": BASE["gate"] | {"up_to": 512}}}
    assert study(monkeypatch, written(tmp_path, **made), tmp_path / "out", code_of=code_of) == 0
    found = results(tmp_path / "out")
    assert [each["step"] for each in found["failed"]] == ["base:0"]
    assert [each["passed"] for each in found["bases"]] == [False, True]


def test_evaluations_by_hand_move_no_verdict(tmp_path, monkeypatch):
    """With more items, of another seed, or of one task, beside those that the study asks for."""
    path, out = written(tmp_path, **MADE), tmp_path / "out"
    assert study(monkeypatch, path, out) == 0
    before = results(out)["verdicts"]
    for run in sorted(out.glob("runs/one/*/*")):
        for name, facts, changes in (
            ("more", 101, {}), ("seed", 3, {"seed": 1}), ("task", 3, {"tasks": ["number"]}),
        ):  # fmt: skip
            cells = [
                ("number", fact, context, distance, float(run.name == "uniform"))
                for context in ("fixed", "minimal")
                for fact in range(facts)
                for distance in (32, 128)
            ]
            digest = name.encode().hex().ljust(32, "0")
            changes = {"tasks": [*TASKS["probe"]], "items": digest, **changes}
            write_probe(str(run), cells, f"probe-512-{name}", **changes)
    assert study(monkeypatch, path, out) == 0
    found = results(out)
    assert found["verdicts"] == before
    assert len(found["stages"][0]["evaluations"]) == 4


def test_the_figures_of_the_tables_are_whole(tmp_path, monkeypatch, capfd):
    """Every difference of the results stands in the text, however narrow the terminal is."""
    path, out = written(tmp_path, **MADE, base=BASE | {"wanted": 2}), tmp_path / "out"
    monkeypatch.setenv("COLUMNS", "60")
    assert study(monkeypatch, path, out) == 0
    printed = capfd.readouterr().out
    (stage,) = results(out)["stages"]
    assert stage["by_base"]["512"]
    for text in (printed, (out / "table.txt").read_text()):
        words = " ".join(text.split())
        for endpoint in stage["evaluations"][0]["endpoints"]:
            for found in endpoint["arms"].values():
                shown = f"{found['delta'] + 0.0:+.3f} ± {found['over_seeds']:.3f}"
                assert shown.replace("-0.000", "+0.000") in words
    assert max(len(line) for line in printed.splitlines()) <= 60


def test_bases_are_paired_by_their_own_start(tmp_path, monkeypatch):
    """One base passes at once, another only after it was extended, and one never."""

    def gated(flags: dict[str, str], distance: int) -> float:
        if flags["--arm"] == "base":
            seed, steps = int(flags["--seed"]), int(flags["--steps"])
            return {0: -5.0, 1: -5.0 if steps == 5 else 3.0, 2: 3.0}[seed]
        return gain(flags, distance)

    path, out = written(tmp_path, **MADE, base=BASE | {"wanted": 2}), tmp_path / "out"
    assert study(monkeypatch, path, out, "--jobs", "3", gain_of=gated) == 0
    found = results(out)
    assert [(b["seed"], b["times"], b["passed"]) for b in found["bases"]] == [
        (0, 2, False), (1, 2, True), (2, 1, True),
    ]  # fmt: skip
    (stage,) = found["stages"]
    assert stage["paired"]
    assert stage["compared"] == [f"{base}.{seed}" for base in (1, 2) for seed in range(3)]
    assert found["verdicts"][0]["pairs"] == 6
    far = [row for row in stage["by_base"]["512"]
           if (row["context"], row["figure"], row["arm"]) == ("fixed", "far", "exact")]  # fmt: skip
    assert [row["base"] for row in far] == [1, 2]
    mean = sum(row["delta"] for row in far) / 2
    assert mean == pytest.approx(found["verdicts"][0]["difference"])


def test_a_failure_is_in_the_table(tmp_path, monkeypatch, capfd):
    def code_of(command) -> int:
        return 1 if "runs/one/1/near" in command else 0

    path, out = written(tmp_path, **MADE), tmp_path / "out"
    assert study(monkeypatch, path, out, code_of=code_of) == 1
    found = results(out)
    assert found["failed"] == [{"step": "near:1:one", "reason": "it went wrong"}]
    (stage,) = found["stages"]
    assert stage["compared"] == ["0", "2"]
    assert [each["pairs"] for each in found["verdicts"]] == [3, 2, 3]
    text = (out / "table.txt").read_text()
    assert "not done: near:1:one: it went wrong" in text
    assert "2 pairs of runs; 1 pair left out, where an arm was not trained" in text
    assert study(monkeypatch, path, out) == 0  # tried again
    assert results(out)["failed"] == []


def test_a_pair_that_is_left_out_is_in_no_base(tmp_path, monkeypatch):
    def code_of(command) -> int:
        return 1 if "runs/one/0.1/near" in command else 0

    path, out = written(tmp_path, **MADE, base=BASE | {"wanted": 2}), tmp_path / "out"
    assert study(monkeypatch, path, out, "--quiet", code_of=code_of) == 1
    (stage,) = results(out)["stages"]
    assert stage["compared"] == ["0.0", "0.2", "1.0", "1.1", "1.2"]
    (far,) = [row for row in stage["by_base"]["512"] if (row["context"], row["figure"], row["arm"],
              row["base"]) == ("fixed", "far", "exact", 0)]  # fmt: skip
    each = [
        sum(gain({"--seed": s, "--arm": arm, "--init-from": "base/0"}, d) * sign
            for d in (128, 256) for arm, sign in (("exact", 1), ("uniform", -1))) / 2
        for s in ("0", "2")
    ]  # fmt: skip
    assert far["delta"] == pytest.approx(sum(each) / 2)


def test_one_seed_is_no_verdict(tmp_path, monkeypatch, capfd):
    one = MADE | {"study": {"name": "x", "seeds": 1}}
    path, out = written(tmp_path, **one), tmp_path / "out"
    assert study(monkeypatch, path, out) == 0
    assert {each["outcome"] for each in results(out)["verdicts"]} == {"no verdict"}
    assert "one pair: no verdict" in capfd.readouterr().out


def test_the_floor_of_the_tables_is_that_of_the_verdicts(tmp_path, monkeypatch):
    """Nobody gets rid of the noise floor by not naming it."""
    unnamed = MADE | {"study": {"name": "x", "seeds": 3}}
    path, out = written(tmp_path, **unnamed), tmp_path / "out"
    assert study(monkeypatch, path, out, "--quiet") == 0
    found = results(out)
    assert found["floor"] == "matched"
    (far,) = [e for e in found["stages"][0]["evaluations"][0]["endpoints"]
              if (e["name"], e["context"]) == ("far", "fixed")]  # fmt: skip
    assert found["verdicts"][0]["floor"] == pytest.approx(far["floor"])


def test_no_base_passes(tmp_path, monkeypatch):
    path, out = written(tmp_path, **MADE, base=BASE), tmp_path / "out"
    assert study(monkeypatch, path, out, gain_of=lambda *_: -9.0) == 1
    found = results(out)
    assert [each["passed"] for each in found["bases"]] == [False] * 3
    assert found["stages"][0]["evaluations"] == []
    assert not (out / "gains.svg").exists()


def test_killed_at_any_moment_the_results_are_the_same(tmp_path, monkeypatch):
    path = written(tmp_path, **MADE, base=BASE | {"wanted": 2})
    assert study(monkeypatch, path, tmp_path / "straight") == 0
    expected = (tmp_path / "straight" / "results.json").read_bytes()
    for number in (0, 3, 17, 40):
        out, left = tmp_path / f"killed-{number}", number
        runs = HandMadeRuns(gain)

        def dying(*arguments, runs=runs):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return runs(*arguments)

        monkeypatch.setattr(running, "Worker", dying)
        assert run_command(["study", str(path), "--out", str(out), "--quiet"]) == 1
        assert not (out / "results.json").exists()
        monkeypatch.setattr(running, "Worker", runs)
        assert run_command(["study", str(path), "--out", str(out), "--quiet", "--jobs", "2"]) == 0
        assert (out / "results.json").read_bytes() == expected


def test_json(tmp_path, monkeypatch, capfd):
    path, out = written(tmp_path, **MADE), tmp_path / "out"
    assert study(monkeypatch, path, out, "--json") == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out) == results(out)
    assert "exact:2:one  done in 0 s  (13 of 13 steps)" in printed.err
    assert str(tmp_path) not in printed.out


def test_the_processor_is_divided_as_the_dry_run_says(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    path, out = written(tmp_path), tmp_path / "out"
    assert study(monkeypatch, path, out, "--dry-run", "--jobs", "3") == 0
    assert capfd.readouterr().out.splitlines()[1] == "export OMP_NUM_THREADS=2"
    assert workers.environment_of(3) == {"OMP_NUM_THREADS": "2"}
    assert workers.environment_of(1) == {}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert workers.environment_of(3) == {}


def test_dry_run(tmp_path, monkeypatch, capfd):
    path, out = written(tmp_path, **MADE, base=BASE), tmp_path / "out"
    assert study(monkeypatch, path, out, "--dry-run") == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == f"mkdir -p {out} && cd {out}"
    assert lines[1:3] == [
        "# prepare:table.json",
        "exactcpt reweigh s --table-only --out table.json",
    ]
    assert "# base 0 must gain 1 nats at distances up to 64; else it is trained on, to at most 2 " \
        "times its plan; then the next seed takes its place" in lines  # fmt: skip
    assert lines[-1] == (
        "# 14 steps, 0 done; time unknown until a step of each kind is done, with 1 command at a "
        "time"
    )
    assert not out.exists()
    assert study(monkeypatch, path, out, "--quiet") == 0
    capfd.readouterr()
    assert study(monkeypatch, path, out, "--dry-run") == 0
    lines = capfd.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("exactcpt")]


@pytest.mark.parametrize(
    ("run", "found"),
    [
        ("reweight s", "there is no command 'reweight'"),
        ("study x.toml --out x", "there is no command 'study'"),
        ("reweigh s --table-only --ou x", "No such option '--ou'"),
        ("reweigh", "Missing argument 'SHARDS'"),
    ],
)
def test_a_command_that_exactcpt_lacks(tmp_path, capfd, run, found):
    path = written(tmp_path, prepare=[{"makes": "x", "run": run}])
    assert run_command(["study", str(path), "--out", str(tmp_path / "out")]) == 2
    error = capfd.readouterr().err
    assert found in error
    assert f"where:    {path}, [[prepare]] x" in error
    assert not (tmp_path / "out").exists()


def test_only_one_step(tmp_path, monkeypatch, capfd):
    path, out = written(tmp_path, **MADE), tmp_path / "out"
    assert study(monkeypatch, path, out, "--only", "prepare:table.json") == 0
    assert study(monkeypatch, path, out, "--only", "exact:1:one") == 0
    assert (out / "registered.json").exists()
    assert not (out / "results.json").exists()
    assert (out / "runs" / "one" / "1" / "exact" / "run.json").exists()
    assert study(monkeypatch, path, out, "--only", "exact:9:one") == 2
    assert "there is no step 'exact:9:one'" in capfd.readouterr().err


def test_a_changed_study_is_refused(tmp_path, monkeypatch, capfd):
    path, out = written(tmp_path, **MADE), tmp_path / "out"
    assert study(monkeypatch, path, out, "--quiet") == 0
    changed = written(tmp_path, **MADE | {"primary": [NEAR]})
    for more in (["--quiet"], ["--dry-run"], ["--only", "exact:1:one"]):
        assert study(monkeypatch, changed, out, *more) == 2
        assert "the study differs from what was registered" in capfd.readouterr().err


def test_without_the_libraries_of_training(tmp_path, monkeypatch, capfd):
    def missing() -> None:
        raise ExactcptError("torch is not installed")

    monkeypatch.setattr(cli, "check_installed", missing)
    path = written(tmp_path)
    assert run_command(["study", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "torch is not installed" in capfd.readouterr().err
