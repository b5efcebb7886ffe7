"""The weighted loss beside unweighted ones: time and memory, forward and backward.

    python tests/benchmarks/loss.py [--device cuda] [--quick] [--shape 4096 32768 512]

    weighted      exactcpt's fused loss, weights between 1 and 2
    all weights 1 the same, with nothing to weight
    torch         `F.linear_cross_entropy` in chunks: fused, and without weights of targets
    logits        all logits, then `F.cross_entropy`

Times are medians of interleaved runs in one process, fp32 on a CPU and bf16 on CUDA. Memory is what
a process of its own has at its peak beyond the inputs and the returned gradients, at 16,384
positions, 131,072 ids and a width of 2,048; the limit is a tenth of the logits in bf16. All logits
are too large for that. On a CPU the memory alone takes some ten minutes. --shape measures both at
as many positions, ids and a width of your own, all logits too. The table, then JSON in the last
line.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from common import machine, peak, run, start_peak
from torch import Tensor

from exactcpt.training.models.loss import weighted_cross_entropy

REPETITIONS = 5
TIMED = {"cpu": (2048, 49152, 576), "cuda": (16384, 151936, 896)}
MEASURED = (16384, 131072, 2048)
QUICK = (1024, 4096, 64)
SHARE = 0.1  # of the logits in bf16
COST = 1.02  # of weights, on a GPU

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def weighted(hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return weighted_cross_entropy(hidden, head, targets, weights / len(targets))[0]


def all_ones(hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return weighted(hidden, head, targets, torch.ones_like(weights))


def torch_fused(hidden: Tensor, head: Tensor, targets: Tensor, _: Tensor) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    return F.linear_cross_entropy(hidden, head, targets, options=options)


def materialised(hidden: Tensor, head: Tensor, targets: Tensor, _: Tensor) -> Tensor:
    return F.cross_entropy((hidden @ head.T).float(), targets)


LOSSES: dict[str, Loss] = {
    "weighted": weighted,
    "all weights 1": all_ones,
    "torch": torch_fused,
    "logits": materialised,
}
MEASURED_LOSSES = ("weighted", "torch")


def inputs(shape: tuple[int, ...], device: str, dtype: torch.dtype) -> list[Tensor]:
    rows, ids, width = shape
    hidden = torch.randn(rows, width, device=device).to(dtype).requires_grad_()
    head = torch.empty(ids, width, device=device, dtype=dtype).normal_(0, 0.02).requires_grad_()
    targets = torch.randint(0, ids, (rows,), device=device)
    return [hidden, head, targets, 1 + torch.rand(rows, device=device)]


def times(shape: tuple[int, ...], device: str, dtype: torch.dtype) -> dict[str, float]:
    """Seconds of each loss."""
    tensors = inputs(shape, device, dtype)

    def once(loss: Loss) -> float:
        began = time.perf_counter()
        loss(*tensors).backward()
        if device == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - began
        for tensor in tensors[:2]:
            tensor.grad = None
        return taken

    found: dict[str, list[float]] = {name: [] for name in LOSSES}
    for repetition in range(REPETITIONS + 1):
        for name, loss in LOSSES.items():
            taken = once(loss)
            if repetition:  # the first one warms up
                found[name].append(taken)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def bytes_beyond(name: str, shape: tuple[int, ...], device: str, dtype: torch.dtype) -> int:
    """Measures one loss in this process: peak memory beyond inputs and returned gradients."""
    LOSSES[name](*inputs((64, 128, 16), device, dtype)).backward()  # libraries load
    tensors = inputs(shape, device, dtype)
    before = start_peak(device)
    LOSSES[name](*tensors).backward()
    returned = sum(tensor.grad.nbytes for tensor in tensors[:2] if tensor.grad is not None)
    return peak(device) - before - returned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="small: shows that it works")
    parser.add_argument("--shape", nargs=3, type=int, help="positions, ids and width")
    parser.add_argument("--memory-of", nargs=2, metavar=("LOSS", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.manual_seed(0)
    own = QUICK if options.quick else options.shape and tuple(options.shape)
    shape = own or MEASURED
    if options.memory_of:
        name, dtype = options.memory_of
        found = bytes_beyond(name, shape, options.device, getattr(torch, dtype))
        sys.stdout.write(json.dumps({"bytes": found}) + "\n")
        return
    dtype = {"cpu": "float32", "cuda": "bfloat16"}[options.device]
    memory: dict[str, int] = {}
    for name in (*MEASURED_LOSSES, "logits") if options.shape else MEASURED_LOSSES:
        command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name, dtype]
        memory[name] = run(command).report["bytes"]
    timed = own or TIMED[options.device]
    seconds = times(timed, options.device, getattr(torch, dtype))
    report(options.device, dtype, timed, seconds, shape, memory)


def report(
    device: str,
    dtype: str,
    timed: tuple[int, ...],
    seconds: dict[str, float],
    measured: tuple[int, ...],
    memory: dict[str, int],
) -> None:
    write = sys.stdout.write
    write(f"{device}, {dtype}; time: {size(timed)}\n")
    for name, taken in seconds.items():
        cost = taken / seconds["all weights 1"]
        write(f"  {name:<16}{taken * 1e3:>12,.1f} ms{cost:>8.3f} of all weights 1\n")
    logits = measured[0] * measured[1] * 2
    write(f"memory beyond inputs and gradients: {size(measured)}\n")
    for name, found in memory.items():
        write(f"  {name:<16}{found / 2**20:>12,.1f} MiB{found / logits:>8.1%} of bf16 logits")
        write(f", at most {SHARE:.0%}\n" if name == "weighted" else "\n")
    found: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "timed": timed,
        "seconds": seconds,
        "measured": measured,
        "bytes": memory,
        "bf16_logits_bytes": logits,
        "machine": machine(("exactcpt", "torch")),
    }
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
        write(f"weights cost at most {COST - 1:.0%} on a GPU\n")
    write(json.dumps(found) + "\n")


def size(shape: tuple[int, ...]) -> str:
    rows, ids, width = shape
    return f"{rows:,} positions, {ids:,} ids, width {width:,}"


if __name__ == "__main__":
    main()
