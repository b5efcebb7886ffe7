import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from harness import done
from recorded_runs import COUNTS, STEPS, stage, text_of, write

from exactcpt.schemas.errors import FormatError, IncompleteError, UsageError
from exactcpt.training.comparison.runs import compare


def test_a_pair(tmp_path):
    found = compare([write(tmp_path / "e", "exact", gain=0.4), write(tmp_path / "u")])
    assert found.baseline == "uniform"
    assert found.is_paired
    assert found.settings == {
        "weighting": {str(tmp_path / "e"): "exact", str(tmp_path / "u"): "uniform"}
    }
    (pair,) = found.pairs
    assert (pair.seeds, pair.steps, pair.first_difference) == ((0,), STEPS, None)
    books, training = found.losses
    assert (books.name, books.step) == ("books", 20)
    assert training.title == "training windows, steps 19 to 20"
    every, short, tail = books.rows
    assert (every.contexts, short.contexts, tail.contexts) == (None, (0, 7), (16, 31))
    assert (short.in_tail, tail.in_tail) == (False, True)
    assert (every.targets, short.targets, tail.targets) == (40, 10, 30)
    assert tail.baseline == pytest.approx(3.8)
    assert tail.arms["exact"].loss == pytest.approx(3.4)
    assert tail.arms["exact"].delta == pytest.approx(-0.4)
    assert tail.arms["exact"].interval is None
    assert short.arms["exact"].delta == pytest.approx(0)
    assert every.arms["exact"].delta == pytest.approx(-0.3)
    assert training.rows[2].baseline == pytest.approx(4 - 0.195)


def test_intervals_over_seeds(tmp_path):
    gains = [0.1, 0.3, 0.35]
    runs = [
        *(write(tmp_path / f"e{i}", "exact", seed=i, gain=g) for i, g in enumerate(gains)),
        *(write(tmp_path / f"u{i}", seed=i) for i in range(3)),
    ]
    found = compare(runs)
    assert found.is_paired
    assert found.unwanted == []
    assert list(found.arms) == ["exact", "uniform"]
    delta = found.losses[0].rows[2].arms["exact"]
    assert delta.delta == pytest.approx(-0.25)
    assert delta.interval == pytest.approx(4.302653 * statistics.stdev(gains) / math.sqrt(3))
    assert found.losses[0].rows[2].baseline == pytest.approx(3.8 + 1)
    assert found.curves["uniform"][0] == (1, pytest.approx((10 * 4.99 + 30 * 3.99) / 40 + 1))


def test_runs_whose_windows_part(tmp_path):
    one, other = write(tmp_path / "e", "exact"), tmp_path / "u"
    write(other)
    lines = (other / "log.jsonl").read_text().replace('"d07"', '"x"').replace('"d09"', '"y"')
    (other / "log.jsonl").write_text(lines)
    found = compare([one, str(other)])
    assert found.pairs[0].first_difference == 7
    assert not found.is_paired
    text = text_of(found)
    assert "not from step 7 on" in text
    assert "not paired: the windows differ" in text


def test_steps_that_a_run_skipped(tmp_path):
    """They are told, and count for neither arm."""
    one, other = write(tmp_path / "e", "exact", skipped=[3, 20]), write(tmp_path / "u")
    found = compare([one, other])
    assert found.skipped == {one: [3, 20]}
    assert found.skipped_by_arm == {"exact": 2}
    assert found.is_paired
    (training,) = [each for each in found.losses if each.name == "training windows"]
    assert (training.first_step, training.step) == (19, 19)
    assert training.rows[2].baseline == pytest.approx(4 - 0.19)
    assert training.rows[2].arms["exact"].delta == pytest.approx(0)
    assert [step for step, _ in found.curves["exact"]] == [1, 2, *range(4, 20)]
    text = text_of(found)
    assert f"{one} skipped 2 steps (3, 20): a loss or the gradient was not finite" in text
    assert "not finite" not in text_of(compare([write(tmp_path / "n", "near"), other]))


def test_settings_that_should_not_differ(tmp_path):
    found = compare(
        [
            write(tmp_path / "e", "exact", learning_rate=0.2, save_every=9, model="other"),
            write(tmp_path / "u"),
        ]
    )
    assert found.unwanted == ["learning_rate", "model"]
    assert set(found.settings) == {"learning_rate", "model", "save_every", "weighting"}
    assert "not paired: learning_rate differs, model differs" in text_of(found)


def test_what_changes_on_the_way(tmp_path):
    """The last settings are equal, and so is all that differs after the last common step."""
    faster = {"learning_rate": 0.2}
    found = compare(
        [
            write(tmp_path / "e", "exact", changed={6: faster, 8: {"learning_rate": 0.1}}),
            write(tmp_path / "u", steps=15, changed={15: {"clip_norm": 3.0}}),
            write(tmp_path / "m", "matched", changed={15: {"beta1": 0.5}}),
        ]
    )
    assert found.unwanted == ["learning_rate"]
    assert found.to_json()["settings"]["learning_rate"] == {
        str(tmp_path / "e"): {"values": ((1, 0.1), (7, 0.2), (9, 0.1))},
        str(tmp_path / "u"): 0.1,
        str(tmp_path / "m"): 0.1,
    }
    assert "0.1, from step 7 on 0.2, from step 9 on 0.1" in text_of(found)


def test_what_changes_in_both_alike(tmp_path):
    changed: dict[int, Any] = {6: {"learning_rate": 0.2}}
    runs = [write(tmp_path / w, w, changed=changed) for w in ("exact", "uniform")]
    assert compare(runs).is_paired
    later: dict[int, Any] = {7: {"learning_rate": 0.2}}
    assert compare([runs[0], write(tmp_path / "u", changed=later)]).unwanted == ["learning_rate"]


def test_what_no_figure_depends_on(tmp_path):
    changed: dict[int, Any] = {6: {"micro_batch": 2, "save_every": 7}}
    found = compare([write(tmp_path / "e", "exact", changed=changed), write(tmp_path / "u")])
    assert found.is_paired
    assert set(found.settings) == {"micro_batch", "save_every", "weighting"}
    runs = [write(tmp_path / str(seed), seed=seed, micro_batch=seed) for seed in (1, 2)]
    assert list(compare(runs).arms) == ["uniform"]


def test_arms_that_parted_in_an_earlier_stage(tmp_path):
    runs = [
        write(tmp_path / f"{w}{seed}", w, seed=seed, earlier=stage(w, seed=seed + 5, keep=seed))
        for w in ("exact", "uniform")
        for seed in (0, 1)
    ]
    found = compare(runs)
    assert list(found.arms) == ["exact", "uniform"]
    assert set(found.settings) == {"seed", "weighting", "init_from.seed", "init_from.weighting"}
    assert found.is_paired
    assert found.seeds == [(0, 5), (1, 6)]
    assert found.losses[0].rows[0].arms["exact"].interval is not None
    assert "means over seeds 0 after 5, 1 after 6" in text_of(found)


def test_seeds_of_an_earlier_stage_alone(tmp_path):
    """Each has the seed 0 in the second stage."""
    runs = [
        write(tmp_path / f"{w}{seed}", w, earlier=stage(w, seed=seed))
        for w in ("exact", "uniform")
        for seed in (1, 2)
    ]
    found = compare(runs)
    assert found.is_paired
    assert found.seeds == [(0, 1), (0, 2)]
    assert not compare([runs[0], runs[3]]).is_paired


def test_arms_of_one_weighting_and_other_earlier_ones(tmp_path):
    found = compare([write(tmp_path / w, earlier=stage(w)) for w in ("exact", "uniform")])
    assert list(found.arms) == ["uniform", "uniform 2"]
    assert found.is_paired


@pytest.mark.parametrize(
    ("one", "other", "unwanted"),
    [
        (stage("exact", beta1=0.8), stage("uniform"), ["init_from.beta1"]),
        (stage("exact", step=8), stage("uniform"), ["init_from.step"]),
        (stage("exact", shards="8k"), stage("uniform"), ["init_from.shards"]),
        (stage("exact"), None, ["init_from.step"]),
        (
            stage("exact", earlier=stage("exact", beta1=0.8)),
            stage("uniform", earlier=stage("uniform")),
            ["init_from.init_from.beta1"],
        ),
        (
            stage("exact", earlier=stage("exact")),
            stage("uniform"),
            ["init_from.init_from.step"],
        ),
    ],
)
def test_weights_that_come_from_elsewhere(tmp_path, one, other, unwanted):
    runs = [write(tmp_path / "e", "exact", earlier=one), write(tmp_path / "u", earlier=other)]
    found = compare(runs)
    assert found.unwanted == unwanted
    assert not found.is_paired


def test_a_seed_that_the_baseline_lacks(tmp_path):
    found = compare([write(tmp_path / "e", "exact", seed=1), write(tmp_path / "u")])
    assert found.pairs == []
    assert not found.is_paired
    text = text_of(found)
    assert "the baseline has no run of this seed" in text
    assert "not paired: no two runs share a seed" in text


@pytest.mark.parametrize(
    "measured",
    [
        {"shards": "other"},
        {"window": 64, "bucket_loss": [4.0] * 4, "bucket_targets": [10] * 4},
        {"window": 16, "bucket_loss": [4.0] * 2, "bucket_targets": [10] * 2},
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_sets_that_are_not_the_same_windows(tmp_path, measured, first):
    settings = [{"measured": {"shards": "books"} | measured}, {"measured": {"shards": "books"}}]
    exact = write(tmp_path / "e", "exact", **settings[first])
    found = compare([exact, write(tmp_path / "u", **settings[1 - first])])
    assert found.unlike == ["books"]
    assert not found.is_paired
    assert [losses.title for losses in found.losses] == ["training windows, steps 19 to 20"]
    assert "not paired: the windows of the eval set books differ" in text_of(found)


def test_how_a_measured_set_was_named_is_no_setting(tmp_path):
    """Two seeds of an arm are one arm, and the arms are pairs."""
    named = [{"eval": {"books": path}, "eval_every": 5 + n, "eval_windows": 64 + n}
             for n, path in enumerate(("books", "/abs/books"))]  # fmt: skip
    found = compare(
        [
            write(tmp_path / f"{w}{seed}", w, seed=seed, earlier=stage(w, **named[seed]), **now)
            for w, now in (("exact", named[0]), ("uniform", named[1]))
            for seed in (0, 1)
        ]
    )
    assert list(found.arms) == ["exact", "uniform"]
    assert found.is_paired
    assert set(found.settings) == {
        "seed", "weighting", "init_from.weighting", "eval_every", "eval_windows"
    }  # fmt: skip
    assert found.unmeasured == []


def test_a_set_that_was_measured_anew(tmp_path):
    """At the last step, in all runs, with more windows than before."""
    runs = [write(tmp_path / w, w, measured={"windows": 8}) for w in ("exact", "uniform")]
    more = {"kind": "eval", "step": STEPS, "name": "books", "windows": 9, "window": 32,
            "bucket_loss": [1.0, None, 2.0], "bucket_targets": COUNTS}  # fmt: skip
    for n, run in enumerate(runs):
        with (Path(run) / "log.jsonl").open("a") as file:
            file.write(json.dumps(more) + "\n")
        assert compare(runs).unlike == (["books"], [])[n]
    assert compare(runs).losses[0].rows[0].baseline == pytest.approx(1.75)


@pytest.mark.parametrize(
    "other", [{"evaluated": False}, {"steps": 4}, {"measured": {"name": "poems"}}]
)
def test_sets_that_not_all_have_measured(tmp_path, other):
    found = compare([write(tmp_path / "e", "exact", **other), write(tmp_path / "u")])
    names = sorted({"books", other.get("measured", {}).get("name", "books")})
    assert found.unmeasured == names
    assert found.is_paired
    assert [losses.name for losses in found.losses] == ["training windows"]
    noun = "eval set" if len(names) == 1 else "eval sets"
    assert (
        f"no table for the {noun} {', '.join(names)}: not evaluated in all runs after a common step"
        in text_of(found)
    )


def test_a_log_that_lost_its_beginning(tmp_path):
    runs = [write(tmp_path / w, w) for w in ("exact", "uniform")]
    log = tmp_path / "uniform" / "log.jsonl"
    log.write_text(log.read_text().partition("\n")[2])
    with pytest.raises(FormatError, match="the log does not say when the run began"):
        compare(runs)


def test_only_seeds_in_common_count(tmp_path):
    runs = [
        *(write(tmp_path / f"e{seed}", "exact", seed=seed, gain=0.4) for seed in (0, 1, 3)),
        *(write(tmp_path / f"m{seed}", "matched", seed=seed) for seed in (1, 3)),
        *(write(tmp_path / f"u{seed}", seed=seed) for seed in (0, 1, 2, 3)),
        write(tmp_path / "t", "tail_flat", seed=9),
    ]
    found = compare(runs)
    assert found.seeds == [(1,), (3,)]
    for losses in found.losses:
        for row in losses.rows:
            assert row.arms.keys() == {"exact", "matched"}
            for delta in row.arms.values():
                assert delta.loss - row.baseline == pytest.approx(delta.delta)
    assert found.losses[0].rows[2].baseline == pytest.approx(3.8 + 2)
    assert found.curves["uniform"][0] == (1, pytest.approx((10 * 4.99 + 30 * 3.99) / 40 + 2))
    assert found.curves["tail_flat"] != []
    assert "means over seeds 1, 3" in text_of(found)


def test_two_arms_of_one_weighting(tmp_path):
    runs = [write(tmp_path / str(rate), learning_rate=rate) for rate in (0.1, 0.2, 0.3)]
    assert list(compare(runs).arms) == ["uniform", "uniform 2", "uniform 3"]


def test_arms_have_the_names_that_the_user_gave_them(tmp_path):
    runs = [
        write(tmp_path / "a", "exact", arm="dose 1"),
        write(tmp_path / "b", "exact", arm="dose 2"),
        write(tmp_path / "c", arm="standard"),
        write(tmp_path / "d"),
        write(tmp_path / "e", norms="x", grad_norm_from="a"),
    ]
    found = compare(runs)
    assert list(found.arms) == ["dose 1", "dose 2", "standard", "uniform", "gradnorm"]
    assert found.baseline == "standard"
    assert found.is_paired
    assert found.unwanted == []


def test_doses_are_arms(tmp_path):
    """One weighting by two tables and by the shards' own weights: three arms, with or without
    names. Where a table lies does not matter."""
    low, high = [1.0, 1.0, 2.0], [1.0, 1.0, 3.0]
    runs = [write(tmp_path / f"u{seed}", seed=seed) for seed in (0, 1)]
    for name, table in (("n", None), ("low", low), ("high", high)):
        runs += [
            write(tmp_path / f"{name}{seed}", "near", table=table, seed=seed,
                  weight_table=table and f"{name}{seed}.json")
            for seed in (0, 1)
        ]  # fmt: skip
    found = compare(runs)
    assert {name: len(paths) for name, paths in found.arms.items()} == {
        "uniform": 2, "near": 2, "near 2": 2, "near 3": 2,
    }  # fmt: skip
    assert found.is_paired
    named = [
        write(tmp_path / f"dose-{n}", "near", table=table, arm=f"dose-{n}")
        for n, table in enumerate((low, high))
    ]
    assert list(compare([runs[0], *named]).arms) == ["uniform", "dose-0", "dose-1"]


def test_the_norms_of_an_arm_make_one_arm(tmp_path):
    """Each seed takes the norms of the run of its own seed, from another folder."""
    runs = [
        write(tmp_path / f"g{seed}", seed=seed, norms="x", grad_norm_from=f"e{seed}")
        for seed in (0, 1)
    ]
    found = compare([*runs, write(tmp_path / "u0"), write(tmp_path / "u1", seed=1)])
    assert {name: len(paths) for name, paths in found.arms.items()} == {"gradnorm": 2, "uniform": 2}
    assert found.is_paired


def test_a_setting_that_older_runs_do_not_have(tmp_path):
    newer = {"arm": None, "grad_norm_from": None, "deterministic": False, "yarn_factor": None}
    runs = [write(tmp_path / "u0"), write(tmp_path / "u1", seed=1, **newer)]
    assert list(compare([*runs, write(tmp_path / "e", "exact")]).arms) == ["uniform", "exact"]


def test_a_baseline_of_ones_own(tmp_path):
    runs = [write(tmp_path / "e", "exact", gain=0.5), write(tmp_path / "u")]
    found = compare(runs, "exact")
    assert found.baseline == "exact"
    assert found.losses[0].rows[2].arms["uniform"].delta == pytest.approx(0.5)
    with pytest.raises(UsageError, match="no run is of the arm 'x'") as caught:
        compare(runs, "x")
    assert caught.value.expected == "--baseline exact or uniform"


def test_without_uniform_the_first_is_the_baseline(tmp_path):
    found = compare([write(tmp_path / "m", "matched"), write(tmp_path / "e", "exact")])
    assert found.baseline == "matched"


def test_runs_of_different_lengths(tmp_path):
    found = compare([write(tmp_path / "e", "exact", steps=13), write(tmp_path / "u")])
    assert [losses.title for losses in found.losses] == [
        "books, step 10",
        "training windows, step 13",
    ]
    assert found.pairs[0].steps == 13


def test_runs_that_were_not_evaluated(tmp_path):
    found = compare([write(tmp_path / "e", "exact", evaluated=False), write(tmp_path / "u")])
    assert len(found.losses) == 1


def test_what_a_person_sees(tmp_path):
    text = text_of(compare([write(tmp_path / "e", "exact", gain=0.4), write(tmp_path / "u")]))
    assert "paired: same windows, and only the weighting differs" in text
    assert "yes, all digests agree" in text
    rows = {tuple(cell.strip() for cell in line.split("│")) for line in text.splitlines()}
    assert ("", "16-31 *", "30", "3.8000", "3.4000", "-0.4000", "") in rows
    assert ("", "all", "40", "4.0500", "3.7500", "-0.3000", "") in rows


def test_a_narrow_console_cuts_no_figure(tmp_path):
    arms = ("exact", "shuffled", "tail_flat", "uniform")
    runs = [write(tmp_path / f"{arm}-{seed}", arm, seed=seed) for arm in arms for seed in (0, 1)]
    wide, narrow = (text_of(compare(runs), width) for width in (160, 80))
    assert "…" not in narrow
    assert max(map(len, narrow.splitlines())) <= 80
    assert wide.count("16-31 *") == 2  # a table for the eval set, one for the training windows
    assert narrow.count("16-31 *") == 6  # each for three arms
    assert wide.count(" ± ") == narrow.count(" ± ") > 0


def test_a_difference_that_is_rounded_to_nothing_has_no_minus(tmp_path):
    text = text_of(compare([write(tmp_path / "e", "exact", gain=1e-5), write(tmp_path / "u")]))
    assert "+0.0000" in text
    assert "-0.0000" not in text


@pytest.mark.parametrize(
    ("make", "error", "found"),
    [
        (lambda p: [write(p / "u")], UsageError, "there is only one run to compare"),
        (lambda p: [write(p / "u"), str(p / "none")], UsageError, "there is no such folder"),
        (lambda p: [write(p / "u"), str(p)], FormatError, "this folder is not a run"),
        (
            lambda p: [write(p / "u"), write(p / "e", "exact", steps=0)],
            IncompleteError,
            "the run has taken no step yet",
        ),
        (
            lambda p: [write(p / "u"), write(p / "v")],
            UsageError,
            "two runs have the same settings and seed 0",
        ),
    ],
)
def test_what_cannot_be_compared(tmp_path, make, error, found):
    with pytest.raises(error) as caught:
        compare(make(tmp_path))
    assert caught.value.found == found


@pytest.mark.slow
def test_the_command(tmp_path):
    runs = [write(tmp_path / "e", "exact", gain=0.4), write(tmp_path / "u")]
    drawn = ["--svg", str(tmp_path / "c.svg"), "--html", str(tmp_path / "c.html")]
    found = json.loads(done("compare", *runs, "--json", *drawn).out)
    assert found["paired"] is True
    assert found["losses"][0]["rows"][2]["arms"]["exact"]["delta"] == pytest.approx(-0.4)
    assert (tmp_path / "c.svg").read_text().startswith("<svg")
    assert (tmp_path / "c.html").read_text().startswith("<!DOCTYPE html>")
    assert "books, step 20: unweighted loss" in done("compare", *runs).out
