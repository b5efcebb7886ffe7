"""Training steps of models on packed windows: speed, memory, and on what.

    python tests/benchmarks/training.py            needs CUDA
    python tests/benchmarks/training.py --quick    a tiny model on whatever there is: it works

    exactcpt      as `exactcpt train` on a GPU: FSDP2, compiled blocks, attention by document that
                  is told the longest one, the weighted loss in a kernel
    plain ours    the same without what makes it fast: blocks that are not compiled, attention that
                  is told the window, the loss by PyTorch's operations
    plain HF      the same model compiled in bf16 autocast, with the document mask that transformers
                  makes of position_ids, all logits, and F.cross_entropy times the weights

    0.5B          the shape of Qwen2.5-0.5B
    3B stack      eight layers of Llama-3.2-3B, with its embedding

Random weights in fp32, computation in bf16; a step is 65,536 tokens in micro-batches of 16,384,
clipping and fused AdamW. Documents have 64 to 32,768 tokens, cut at the window's end. MFU counts
what training/run/metrics.py says. Then one step is profiled: time of the kernels of matrix
products, attention, the loss (its own products included), and all others. The table, then JSON in
the last line. --size, --window and --arm choose a part of it.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from common import machine
from torch import Tensor
from torch.autograd import DeviceType
from torch.distributed.device_mesh import init_device_mesh
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config

from exactcpt.training.config import TrainConfig
from exactcpt.training.models import loss as training_loss
from exactcpt.training.models import model as training_model
from exactcpt.training.models.attention import default_backend
from exactcpt.training.models.kernels import attention_kernel
from exactcpt.training.models.model import build, parallelize
from exactcpt.training.models.optim import clip, make_optimizer
from exactcpt.training.run.metrics import Flops

REPETITIONS = 5
SETTINGS = TrainConfig(shards="none", model="none", out="none")
LOSS = "weighted loss"
ATTENTION = ("flash", "fmha", "segment_attention", "scaled_dot_product")
PRODUCTS = ("gemm", "nvjet", "cutlass", "xmma", "aten::mm", "aten::addmm", "aten::bmm")
TARGET_MFU = 0.33  # at the longest window

Batch = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is measured; the fields are those of a model's configuration, and of the module."""

    kind: type[PreTrainedConfig]
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    windows: tuple[int, ...]
    step_tokens: int
    micro_tokens: int

    def config(self, window: int) -> PreTrainedConfig:
        return self.kind(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            max_position_embeddings=window,
            tie_word_embeddings=True,
        )


SIZES = {
    "0.5B": Size(
        kind=Qwen2Config, vocab_size=151936, hidden_size=896, intermediate_size=4864,
        num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
        windows=(4096, 8192, 16384), step_tokens=65536, micro_tokens=16384,
    ),
    "3B stack": Size(
        kind=LlamaConfig, vocab_size=128256, hidden_size=3072, intermediate_size=8192,
        num_hidden_layers=8, num_attention_heads=24, num_key_value_heads=8,
        windows=(16384,), step_tokens=65536, micro_tokens=16384,
    ),
    "tiny": Size(
        kind=Qwen2Config, vocab_size=4096, hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        windows=(512,), step_tokens=2048, micro_tokens=1024,
    ),
}  # fmt: skip


def batches(size: Size, window: int, device: str) -> list[Batch]:
    """The micro-batches of a step."""
    draw = torch.Generator().manual_seed(0)
    rows = max(1, size.micro_tokens // window)
    made = [
        micro_batch(size, rows, window, draw) for _ in range(size.step_tokens // (rows * window))
    ]
    for batch in made:
        batch |= {n: values.to(device) for n, values in batch.items() if n != "max_seqlen"}
    return made


def micro_batch(size: Size, rows: int, window: int, draw: torch.Generator) -> Batch:
    lengths: list[int] = []
    for _ in range(rows):
        left = window
        while left:
            drawn = int(64 * 2 ** (9 * torch.rand(1, generator=draw).item()))
            lengths.append(min(left, drawn))
            left -= lengths[-1]
    positions = torch.cat([torch.arange(n) for n in lengths]).view(rows, window)
    ids = torch.randint(0, size.vocab_size, (rows, window), generator=draw)
    weights = 1 + torch.rand(rows, window, generator=draw)
    return {
        "input_ids": ids,
        "position_ids": positions,
        "cu_seqlens": torch.tensor([0, *lengths]).cumsum(0).int(),
        "labels": ids.masked_fill(positions == 0, -100),
        "loss_weights": weights.masked_fill(positions == 0, 0),
        "max_seqlen": max(lengths),
    }


def exactcpt_step(
    size: Size, window: int, device: str, *, fast: bool = True
) -> tuple[Any, Callable[[Batch], Tensor]]:
    backend = default_backend(device)
    attention_kernel(backend, torch.device(device))
    model = build(size.config(window), window=window, backend=backend).to(device)
    mesh = init_device_mesh(device, (1,))
    parallelize(model, mesh, dtype=torch.bfloat16, compiled=fast)
    divisor = torch.tensor(float(size.step_tokens), device=device)
    if fast:
        return model, lambda batch: model(**batch, denominator=divisor)[0]

    def slow(batch: Batch) -> Tensor:
        with mock.patch.object(training_loss, "_kernel_for", lambda _: None):
            return model(**batch | {"max_seqlen": window}, denominator=divisor)[0]

    return model, slow


def plain_step(size: Size, window: int, device: str) -> tuple[Any, Callable[[Batch], Tensor]]:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(size.config(window)).to(device)
    compiled = torch.compile(model)

    def loss(batch: Batch) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            logits = compiled(
                input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
            ).logits
        ce = F.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), batch["labels"][:, 1:].flatten(), reduction="none"
        )
        return (ce * batch["loss_weights"][:, 1:].flatten()).sum() / size.step_tokens

    return model, loss


ARMS = {
    "exactcpt": exactcpt_step,
    "plain ours": partial(exactcpt_step, fast=False),
    "plain HF": plain_step,
}


def measure(arm: str, size: Size, window: int, device: str) -> dict[str, Any]:
    """Median speed of an arm and its peak memory; of ours also where a step's time goes."""
    model, loss = ARMS[arm](size, window, device)
    optimizer = make_optimizer(model, SETTINGS)
    micro_batches = batches(size, window, device)

    def step() -> float:
        began = time.perf_counter()
        total = 0.0
        for batch in micro_batches:
            share = loss(batch)
            share.backward()
            total += share.detach()
        clip(model.parameters(), SETTINGS.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(total))  # waits for the device
        return time.perf_counter() - began

    losses: list[float] = []
    for _ in range(3):
        step()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = statistics.median(step() for _ in range(REPETITIONS))
    found: dict[str, Any] = {
        "seconds": seconds,
        "tokens_per_second": size.step_tokens / seconds,
        "mfu": None,
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "first_loss": losses[0],
    }
    if arm != "plain HF":
        visible = sum(int((batch["position_ids"] + 1).sum()) for batch in micro_batches)
        flops = Flops.of(model, torch.device(device), 1, SETTINGS)
        found["work"] = {"tokens": size.step_tokens, "visible": visible}
        found["mfu"] = flops.used(size.step_tokens, visible, seconds)
        try:
            found["profile"] = time_by_kind(step, device)
        except Exception as error:  # the figures above took minutes and are good without it
            found["profile_error"] = f"{type(error).__name__}: {error}"
    return found


def time_by_kind(step: Callable[[], Any], device: str) -> dict[str, float]:
    """Shares of the time of one step's kernels (on a CPU: of its operators)."""
    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    fused = training_model.weighted_cross_entropy

    def labelled(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        with record_function(LOSS):
            return fused(*tensors)

    training_model.weighted_cross_entropy = labelled
    try:
        with profile(activities=activities, acc_events=True) as profiled:
            step()
    finally:
        training_model.weighted_cross_entropy = fused
    times: Counter[str] = Counter()
    for event in profiled.events():
        if event.device_type == DeviceType.CPU:
            in_loss = any(parent.name == LOSS for parent in ancestors(event))
            for name, spent in time_of(event, device):
                times["loss" if in_loss else kind(name)] += spent
    return {name: spent / times.total() for name, spent in times.most_common()}


def ancestors(event: Any) -> Iterator[Any]:
    """The event and all that it is part of."""
    while event is not None:
        yield event
        event = event.cpu_parent


def time_of(event: Any, device: str) -> list[tuple[str, float]]:
    """What an operator spent by itself, without those that it called."""
    if device == "cuda":
        return [(kernel.name, kernel.duration) for kernel in event.kernels]
    return [(event.name, event.self_cpu_time_total)]


def kind(name: str) -> str:
    name = name.lower()
    if any(word in name for word in ATTENTION):
        return "attention"
    return "products" if any(word in name for word in PRODUCTS) else "others"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small: shows that it works")
    parser.add_argument("--size", choices=SIZES, action="append", help="only this one")
    parser.add_argument("--window", type=int, action="append", help="only this one")
    parser.add_argument("--arm", choices=ARMS, action="append", help="only this one")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.quick:
        sys.stderr.write("not run: needs a CUDA device (--quick shows on a CPU that it works)\n")
        return
    names = ["tiny"] if options.quick else options.size or ["0.5B", "3B stack"]
    backend = "nccl" if device == "cuda" else "gloo"
    store = dist.HashStore()
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        for window in options.window or SIZES[name].windows:
            for arm in options.arm or ARMS:
                torch.compiler.reset()
                if device == "cuda":
                    torch.cuda.empty_cache()
                try:
                    row = measure(arm, SIZES[name], window, device)
                except torch.OutOfMemoryError:
                    row = {"out_of_memory": True}
                found[f"{name} {window} {arm}"] = row
    dist.destroy_process_group()
    report(found, device)


def report(found: dict[str, dict[str, Any]], device: str) -> None:
    write = sys.stdout.write
    write(f"{'':<26}{'tokens/s':>12}{'MFU':>8}{'peak GiB':>10}  time of kernels\n")
    for name, row in found.items():
        if "out_of_memory" in row:
            write(f"{name:<26} does not fit\n")
            continue
        mfu = "" if row["mfu"] is None else f"{row['mfu']:.1%}"
        memory = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.1f}"
        shares = (f"{what} {share:.0%}" for what, share in row.get("profile", {}).items())
        write(f"{name:<26}{row['tokens_per_second']:>12,.0f}{mfu:>8}{memory:>10}")
        write(f"  {', '.join(shares)}\n")
    if device == "cuda":
        write(f"wanted: MFU of {TARGET_MFU:.0%} at the longest window\n")
    gpu = {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
    described = machine(("exactcpt", "torch", "transformers"))
    write(json.dumps({"rows": found, "machine": described | gpu}) + "\n")


if __name__ == "__main__":
    main()
