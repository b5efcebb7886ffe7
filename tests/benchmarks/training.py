"""The weighted loss: its time against the unweighted one, its memory, and a model's GPU steps.

    python tests/benchmarks/training.py            the loss on the CPU; memory at 16K x 128K x 2048
    python tests/benchmarks/training.py --quick    a small case: shows that it works
    python tests/benchmarks/training.py --gpu      needs CUDA: the loss, then tokens/s, MFU and peak
                                                   memory of a Qwen2.5-0.5B-shaped model

Prints a table, and JSON in its last line.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from common import machine
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from transformers import AutoModelForCausalLM, Qwen2Config

from exactcpt.training.loss import weighted_cross_entropy
from exactcpt.training.model import build, parallelize

REPETITIONS = 5
H100_BF16_FLOPS = 989e12


def seconds(action: Callable[[], Any], device: str) -> float:
    """Of one call."""
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def loss_inputs(rows: int, ids: int, width: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    hidden = torch.randn(rows, width, device=device).to(dtype).requires_grad_()
    head = torch.empty(ids, width, device=device, dtype=dtype).normal_(0, 0.02).requires_grad_()
    return [hidden, head, torch.randint(0, ids, (rows,), device=device)]


def weighted_against_unweighted(
    rows: int, ids: int, width: int, device: str, dtype: torch.dtype
) -> dict[str, float]:
    """Medians of interleaved runs, forward and backward, of the same fused loss."""
    inputs = loss_inputs(rows, ids, width, device, dtype)
    weights = {
        "unweighted": torch.full((rows,), 1 / rows, device=device),
        "weighted": (1 + torch.rand(rows, device=device)) / rows,
    }

    def run(name: str) -> None:
        weighted_cross_entropy(*inputs, weights[name])[0].backward()
        for tensor in inputs[:2]:
            tensor.grad = None

    for name in weights:
        run(name)
    times: dict[str, list[float]] = {name: [] for name in weights}
    for _ in range(REPETITIONS):
        for name in weights:
            times[name].append(seconds(lambda: run(name), device))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {**medians, "ratio": medians["weighted"] / medians["unweighted"]}


def memory_beyond(rows: int, ids: int, width: int) -> dict[str, float]:
    """Bytes of the loss at its peak beyond inputs and returned gradients, fp32, on the CPU."""
    inputs = loss_inputs(rows, ids, width, "cpu", torch.float32)
    warm = loss_inputs(8, 64, 16, "cpu", torch.float32)
    weighted_cross_entropy(*warm, torch.ones(8))[0].backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    weighted_cross_entropy(*inputs, torch.full((rows,), 1 / rows))[0].backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    returned = sum(tensor.nbytes for tensor in inputs[:2])
    logits = rows * ids * 2
    beyond = peak - before - returned
    return {"beyond_bytes": beyond, "bf16_logits_bytes": logits, "share": beyond / logits}


def qwen(window: int) -> Qwen2Config:
    """The shape of Qwen2.5-0.5B; random weights."""
    return Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=window,
        tie_word_embeddings=True,
    )


def documents_batch(window: int, windows: int, device: str) -> dict[str, Tensor]:
    """Documents of 256 to 4096 tokens, cut at the window's end."""
    draw = torch.Generator().manual_seed(0)
    lengths = []
    for _ in range(windows):
        left = window
        while left:
            lengths.append(min(left, int(256 * 2 ** (4 * torch.rand(1, generator=draw).item()))))
            left -= lengths[-1]
    positions = torch.cat([torch.arange(n) for n in lengths]).view(windows, window)
    ids = torch.randint(0, 151936, (windows, window), generator=draw)
    batch = {
        "input_ids": ids,
        "position_ids": positions,
        "cu_seqlens": torch.tensor([0, *lengths]).cumsum(0).int(),
        "labels": ids.masked_fill(positions == 0, -100),
        "loss_weights": (1 + torch.rand(windows, window)).masked_fill(positions == 0, 0),
    }
    return {name: values.to(device) for name, values in batch.items()}


def step_flops(model: torch.nn.Module, batch: dict[str, Tensor], config: Qwen2Config) -> float:
    """6 FLOPs a weight that multiplies (head included, input embedding not) and token, and causal
    attention over what is visible: 12 x layers x width of the heads x visible tokens."""
    tokens = batch["input_ids"].numel()
    weights = sum(weight.numel() for weight in model.parameters())  # tied: the head is counted once
    visible = (batch["position_ids"].double() + 1).sum().item()
    return 6.0 * weights * tokens + 12.0 * config.num_hidden_layers * config.hidden_size * visible


def gpu_steps(window: int, *, fused: bool) -> dict[str, float]:
    """Forward and backward of 65,536 tokens, bf16, compiled: ours, or plain HF with all logits."""
    config, windows = qwen(window), max(1, 65536 // window)
    micro = max(1, 16384 // window)
    batches = [documents_batch(window, micro, "cuda") for _ in range(windows // micro)]
    if fused:
        model = build(config, window=window, backend="varlen")
        mesh = init_device_mesh("cuda", (1,))
        parallelize(model, mesh, dtype=torch.bfloat16, compiled=True)
        flops = sum(step_flops(model, batch, config) for batch in batches)
    else:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).cuda()
        flops = sum(step_flops(model, batch, config) for batch in batches)
        model = torch.compile(model)

    def run() -> None:
        for batch in batches:
            if fused:
                loss = model(**batch, denominator=torch.tensor(65536.0, device="cuda"))[0]
            else:
                logits = model(input_ids=batch["input_ids"], use_cache=False).logits
                targets = batch["labels"][:, 1:].flatten()
                loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets)
            loss.backward()
        model.zero_grad()

    for _ in range(3):
        run()
    torch.cuda.reset_peak_memory_stats()
    median = statistics.median(seconds(run, "cuda") for _ in range(REPETITIONS))
    return {
        "tokens_per_second": windows * window / median,
        "mfu_of_h100": flops / median / H100_BF16_FLOPS,
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }


def gpu(report: dict[str, Any]) -> None:
    if not torch.cuda.is_available():
        sys.exit("--gpu needs a CUDA device")
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    report["loss_gpu"] = weighted_against_unweighted(16384, 151936, 896, "cuda", torch.bfloat16)
    for window in (4096, 8192, 16384):
        for fused in (True, False):
            torch.cuda.empty_cache()
            name = f"{'fused' if fused else 'plain HF'} {window}"
            try:
                report[name] = gpu_steps(window, fused=fused)
            except torch.cuda.OutOfMemoryError:
                report[name] = {"out_of_memory": 1.0}
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    report: dict[str, Any] = {"machine": machine(["torch", "transformers"])}
    if options.gpu:
        gpu(report)
    else:
        shape = (2048, 4096, 64) if options.quick else (16384, 131072, 2048)
        report["memory"] = memory_beyond(*shape)
        shape = (2048, 4096, 64) if options.quick else (2048, 49152, 576)
        report["loss_cpu"] = weighted_against_unweighted(*shape, "cpu", torch.float32)
    for name, figures in report.items():
        if name != "machine":
            for figure, value in figures.items():
                print(f"{name:<16}{figure:<20}{value:>20,.4f}")  # noqa: T201
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    main()
