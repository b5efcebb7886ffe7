"""Windows in which only the answers are supervised: no loss and no gradient for the questions."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from handmade import Corpus, Document, histogram, pack, window_codes
from models import tiny_config
from tiny import config as config_of
from tiny import corpus, model_folder, set_of
from transformers import AutoModelForCausalLM

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.schemas.shard_set import open_set
from exactcpt.training.evaluation.buckets import open_windows
from exactcpt.training.models.loss import IGNORE, shift
from exactcpt.training.models.model import build
from exactcpt.training.run.log import read_log
from exactcpt.training.train import train
from exactcpt.training.windows.batches import ShardDataset
from exactcpt.training.windows.expansion import Expander
from exactcpt.training.windows.mixing import MixedWindows, mixed_set
from exactcpt.training.windows.weighting import WEIGHTINGS, make_weighting

ALONE = ("document", "near")
"""The weightings that are refused."""


def answered(**settings: Any) -> Corpus:
    """Documents whose last quarter is an answer, some with one in the middle too."""
    packed = corpus(**settings)
    for _, documents in packed.parts:
        documents[:] = [_answered(document) for document in documents]
    return packed


def _answered(document: Document) -> Document:
    n = document.length
    last = ((n - (n + 3) // 4, n),)
    middle = ((n // 3, n // 3 + 2),) if n > 30 else ()
    return replace(document, answers=middle + last)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("answered")
    set_of(folder / "shards", answered())
    model_folder(folder / "model")
    return folder


def codes_of(number: int) -> list[int]:
    packed = answered()
    return window_codes(pack(packed, "train")[number], packed.supervises)


@pytest.mark.parametrize("name", [name for name in WEIGHTINGS if name not in ALONE])
def test_questions_weigh_nothing(folder, name):
    shards = open_set(folder / "shards")
    table = [1 + b / 4 for b in range(len(shards.buckets))] if name == "table" else None
    weighting = make_weighting(name, shards, table=table)
    dataset = ShardDataset(shards, weighting=weighting)
    numbers = list(range(len(dataset)))
    batch = dataset.batch(numbers)
    found = Expander(weighting, torch.device("cpu"))(batch)
    codes = np.array([codes_of(number) for number in numbers])
    assert ((found.labels != IGNORE).numpy() == (codes > 0)).all()
    assert ((found.loss_weights != 0).numpy() == (codes > 0)).all()
    assert batch.targets == (codes > 0).sum()
    assert batch.sum_w == found.loss_weights.double().sum().item()
    assert batch.tokens == sum(n for w in pack(answered(), "train") for d, _, n in w if d >= 0)
    if name == "exact":
        by_code = shards.dictionary("train")
        assert found.loss_weights.numpy().tolist() == by_code[codes].tolist()


@pytest.mark.parametrize("plain_first", [True, False])
def test_questions_weigh_nothing_in_a_mix_either(folder, tmp_path, plain_first):
    set_of(tmp_path / "plain", corpus())
    sets = [open_set(tmp_path / "plain"), open_set(folder / "shards")]
    sets = sets if plain_first else sets[::-1]
    mixed = mixed_set(sets, (Fraction(1, 2),) * 2)
    weighting = make_weighting("uniform", mixed)
    dataset = ShardDataset(mixed, weighting=weighting, windows=MixedWindows(sets))
    batch = dataset.batch(list(range(len(dataset))))
    found = Expander(weighting, torch.device("cpu"))(batch)
    assert batch.targets == (found.labels != IGNORE).sum() == batch.sum_w
    with pytest.raises(UsageError, match="follows from the length of a segment"):
        make_weighting("near", mixed)


@pytest.mark.parametrize("name", ALONE)
def test_weightings_that_follow_from_lengths_are_refused(folder, name):
    with pytest.raises(UsageError, match="follows from the length of a segment") as caught:
        make_weighting(name, open_set(folder / "shards"))
    assert caught.value.fix is not None and "--weighting uniform" in caught.value.fix


def test_the_histogram_is_counted_with_the_spans(folder):
    shards = open_set(folder / "shards")
    shards.check_counts()
    packed = answered()
    counts = histogram(pack(packed, "train"), packed.window, supervises=packed.supervises)
    assert shards.histogram("train").tolist() == counts
    manifest = {**shards.manifest, "format_version": 1}
    with pytest.raises(FormatError, match="the shards have the histogram"):
        replace(shards, manifest=manifest).check_counts()


def test_the_suite_buckets_refuses_it(folder):
    with pytest.raises(UsageError, match="only the answers are supervised"):
        open_windows(open_set(folder / "shards"), 1, 0)


def test_no_gradient_reaches_the_logits_of_a_question(folder):
    dataset = ShardDataset(folder / "shards")
    batch = dataset.batch([0, 1])
    found = Expander(dataset.weighting, torch.device("cpu"))(batch)
    targets, weights = shift(found.labels, found.loss_weights)
    logits = torch.randn(*found.input_ids.shape, 100, requires_grad=True)
    ce = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    (weights.flatten() * ce).sum().backward()
    assert logits.grad is not None
    codes = np.array([codes_of(0), codes_of(1)])
    has_target = torch.from_numpy(np.pad(codes[:, 1:] > 0, ((0, 0), (0, 1))))
    assert (logits.grad[~has_target] == 0).all()
    assert (logits.grad[has_target] != 0).any(dim=-1).all()


def test_the_loss_is_that_of_the_answers_in_documents_run_alone(folder):
    """And so are all gradients: the stock model, one document at a time, without our mask."""
    torch.manual_seed(0)
    config = tiny_config(vocab_size=4096)
    own = build(config, window=64, backend="cpu", seed=3).double()
    stock = AutoModelForCausalLM.from_config(config, attn_implementation="eager").double()
    stock.load_state_dict(own.causal_lm.state_dict())
    dataset = ShardDataset(folder / "shards")
    batch = dataset.batch([0, 1])
    found = Expander(dataset.weighting, torch.device("cpu"))(batch)
    one = torch.ones((), dtype=torch.float64)
    loss, _, _ = own(*found, one)
    loss.backward()
    expected = torch.zeros((), dtype=torch.float64)
    ids, weights = found.input_ids.flatten(), found.loss_weights.flatten()
    codes = np.concatenate([codes_of(0), codes_of(1)])
    for start, stop in pairwise(batch.cu_seqlens.tolist()):
        logits = stock(input_ids=ids[None, start:stop].long()).logits[0]
        for at in range(start + 1, stop):
            if codes[at]:
                ce = F.cross_entropy(logits[at - start - 1], ids[at].long())
                expected = expected + weights[at].double() * ce
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    found_gradients = {name: p.grad for name, p in own.causal_lm.named_parameters()}
    for name, parameter in stock.named_parameters():
        mine = found_gradients[name]
        assert mine is not None and parameter.grad is not None
        assert (mine - parameter.grad).norm() < 1e-5 * parameter.grad.norm()  # losses are in fp32


def test_the_stage_that_arms_share(folder, tmp_path):
    """A plain run with uniform weights, from a run of each arm: the same answers in each step."""
    for arm in ("uniform", "exact"):
        own, stage = (tmp_path / kind / arm for kind in ("own", "stage"))
        alike = {"weighting": "uniform", "steps": 2, "eval_every": 2, "seed": 1}
        train(config_of(folder, own, weighting=arm, steps=1), lambda _: None)
        train(config_of(folder, stage, init_from=str(own), **alike), lambda _: None)
    one, other = (
        [record for record in read_log(tmp_path / "stage" / arm) if record["kind"] == "step"]
        for arm in ("uniform", "exact")
    )
    same = ("digest", "targets", "bucket_targets")
    assert [[s[name] for name in same] for s in one] == [[s[name] for name in same] for s in other]
    assert one[0]["loss"] != other[0]["loss"]
    steps = one
    shards = open_set(folder / "shards")
    per_window = [sum(code > 0 for code in codes_of(n)) for n in range(len(ShardDataset(shards)))]
    assert len(steps) == 2
    assert all(min(per_window) * 4 <= s["targets"] <= max(per_window) * 4 for s in steps)
    log = read_log(tmp_path / "stage" / "exact")
    evaluated = next(record for record in log if record["kind"] == "eval")
    assert evaluated["targets"] == int(shards.histogram("validation").sum())
