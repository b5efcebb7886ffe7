import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from models import tiny_config
from transformers import AutoModelForCausalLM

from exactcpt.training.config import TrainConfig
from exactcpt.training.models.model import TrainModel
from exactcpt.training.run.metrics import (
    Flops,
    LocalStep,
    Share,
    bucket_losses,
    digest,
    found_not_finite,
    known_peak,
    step_record,
)


def share(**changes) -> Share:
    whole = Share(
        step=7,
        sums=np.array([[6.0, 0.0, 4.0], [3, 0, 1], [3, 0, 2], [6, 0, 8]]),
        not_finite=(),
        gradient_norm=2.0,
        scaled_to=None,
        windows=(4, 9),
        digests=(1, 2),
        tokens=60,
        visible=300,
        denominator=8.0,
        learning_rate=0.5,
    )
    return replace(whole, **changes)


def test_a_step_of_two_ranks():
    other = share(sums=np.array([[2.0, 0, 0], [4, 0, 0], [5, 0, 0], [3, 0, 0]]), digests=(3, 4))
    assert step_record([share(), other], [False, True, True], 1.0) == {
        "kind": "step",
        "step": 7,
        "loss": (6 + 8 + 3) / 8,
        "unweighted_loss": 12 / 8,
        "targets": 8,
        "sum_w": 10.0,
        "denominator": 8.0,
        "tail_share": 1 / 8,
        "gradient_norm": 2.0,
        "scaled_to": None,
        "clipped": True,
        "skipped": False,
        "learning_rate": 0.5,
        "tokens": 120,
        "digest": digest([(1, 2), (3, 4)]),
        "bucket_loss": [8 / 7, None, 4.0],
        "bucket_targets": [7, 0, 1],
    }


@pytest.mark.parametrize(
    ("scaled_to", "longest", "clipped"),
    [(None, 0, False), (None, 2.0, False), (None, 1.9, True), (3.0, 2.9, True), (1.0, 1.9, False)],
)
def test_clipped(scaled_to, longest, clipped):
    record = step_record([share(scaled_to=scaled_to)], [False] * 3, longest)
    assert (record["gradient_norm"], record["scaled_to"]) == (2.0, scaled_to)
    assert record["clipped"] is clipped


def test_a_step_without_targets():
    record = step_record([share(sums=np.zeros((4, 3)), denominator=1.0)], [True] * 3, 1.0)
    assert (record["loss"], record["unweighted_loss"], record["tail_share"]) == (0.0, None, 0.0)


def test_the_digest_depends_on_windows_and_their_order_alone():
    assert digest([(1, 2), (3, 4)]) == digest([(1, 2, 3, 4)]) == digest([(1,), (2,), (3,), (4,)])
    assert digest([(1, 2)]) != digest([(2, 1)])
    assert digest([(1, 2)]) != digest([(1, 3)])
    assert len(digest([(2**64 - 1,)])) == 32


def test_bucket_losses():
    assert bucket_losses(share().sums) == [2.0, None, 4.0]


def test_from_the_device():
    step = LocalStep(
        step=7,
        sums=torch.from_numpy(share().sums),
        per_window=torch.tensor([1.0, float("nan")]),
        gradient_norm=torch.tensor(2.0),
        scaled_to=3.0,
        windows=(4, 9),
        digests=(1, 2),
        tokens=60,
        visible=300,
        denominator=8.0,
        learning_rate=0.5,
    )
    assert step.share().not_finite == (9,)
    assert np.array_equal(step.share().sums, share().sums)
    assert step.share().scaled_to == 3.0


def test_a_loss_that_is_not_finite():
    shares = [share(gradient_norm=math.nan), share(gradient_norm=math.nan, not_finite=(9,))]
    error = found_not_finite(shares, "shard {}".format)
    assert str(error) == (
        "step 7: the loss is not finite\n"
        "  where:    rank 1, shard 9 (window 9 of the run's windows)"
    )


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite(norm):
    shares = [share(gradient_norm=norm), share(gradient_norm=norm, windows=tuple(range(10)))]
    error = found_not_finite(shares, "shard {}".format)
    assert error is not None
    assert error.found == "step 7: the gradient is not finite, though every loss is"
    assert (error.where or "").startswith("shard 4, shard 9, shard 0, ")
    assert (error.where or "").endswith("shard 5 and 4 more")


@pytest.mark.parametrize("bad", [(), (9,)])
@pytest.mark.parametrize(("norm", "skipped"), [(3.0, False), (math.nan, True), (math.inf, True)])
def test_the_norm_alone_says_what_was_skipped(norm, skipped, bad):
    """It is all that the device goes by, and a step that was taken is not called skipped."""
    shares = [share(gradient_norm=norm), share(gradient_norm=norm, not_finite=bad)]
    assert step_record(shares, [False] * 3, 1.0)["skipped"] == skipped
    assert (found_not_finite(shares, str) is not None) == skipped


def test_the_record_of_a_skipped_step():
    sums = np.array([[math.nan, 0.0, 4.0], [3, 0, 1], [3, 0, 2], [math.inf, 0, 8]])
    record = step_record([share(sums=sums, gradient_norm=math.nan)], [False] * 3, 1.0)
    assert record["bucket_loss"] == [None, None, 4.0]
    assert (record["loss"], record["unweighted_loss"], record["gradient_norm"]) == (None,) * 3
    assert json.dumps(record, allow_nan=False)


def test_a_good_step():
    assert found_not_finite([share(), share()], str) is None


@pytest.mark.parametrize("tied", [False, True])
def test_operations_of_a_model(tied):
    """Counted matrix by matrix."""
    config = tiny_config(tie_word_embeddings=tied, head_dim=16)
    h, f, heads, groups, head, v = 32, 48, 4, 2, 16, config.vocab_size
    block = h * head * (2 * heads + 2 * groups) + 3 * h * f
    norms = 2 * 2 * h + h
    model = TrainModel(AutoModelForCausalLM.from_config(config), "exact")
    settings = TrainConfig(shards="s", model="m", out="o", peak_tflops=1e-6)
    flops = Flops.of(model, torch.device("cpu"), 3, settings)
    assert flops.weights == 2 * block + norms + v * h
    assert flops.attention == 12 * 2 * heads * head
    work = 6 * flops.weights * 100 + flops.attention * 5050
    assert flops.used(100, 5050, 2.0) == pytest.approx(work / 2 / 3e6)


def test_the_peak_of_a_cpu_is_unknown():
    model = TrainModel(AutoModelForCausalLM.from_config(tiny_config()), "exact")
    settings = TrainConfig(shards="s", model="m", out="o")
    assert Flops.of(model, torch.device("cpu"), 1, settings).used(1, 1, 1.0) is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA B200", 2250.0),
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.0),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H100 NVL", 835.0),
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A100 80GB PCIe", 312.0),
        ("A100-PCIE-40GB", 312.0),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA GB200", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", None),
        ("NVIDIA H100", None),
        ("NVIDIA H800", None),
        ("NVIDIA L40S", None),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA GeForce RTX 4090", None),
        ("", None),
    ],
)
def test_the_peak_of_a_device(name, peak):
    assert known_peak(name, "bf16") == peak


def test_other_precisions_have_other_peaks():
    """fp32 is not TensorFloat-32, which is never turned on."""
    peaks = [known_peak("NVIDIA H100 80GB HBM3", each) for each in ("bf16", "fp32", "fp64")]
    assert peaks == [989.4, 66.9, 66.9]
    assert known_peak("NVIDIA A100-SXM4-80GB", "fp32") == 19.5
    assert torch.get_float32_matmul_precision() == "highest"
    assert known_peak("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "fp32") is None
