"""What the ranks of a process group do for the tests: one group a world size, all cases inside."""

import itertools
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F  # noqa: N812
from models import documents, packed, tiny_config
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from exactcpt.training.checkpoint import CheckpointManager
from exactcpt.training.loss import IGNORE
from exactcpt.training.model import TrainModel, build, parallelize

WINDOW = 48
# 16 windows, of which micro-batches get other kinds: one long document each, no target at all,
# little padding, many short documents.
KINDS = [[WINDOW, 0], [1] * 40 + [8], [40, 8], [3] * 16]
WINDOWS = [lengths for lengths in KINDS for _ in range(4)]
ACCUMULATIONS = (1, 2, 4)
DENOMINATORS = ("targets", "sum_w")
GRADIENT_TYPES = (torch.float32, torch.bfloat16)
RESUMED_TYPES = (torch.float64, torch.bfloat16)
STEPS, SAVED_AFTER = 5, 2

Gradients = dict[str, Tensor]


def batch() -> dict[str, Tensor]:
    return packed(WINDOWS, padded=True)


def denominator(name: str) -> Tensor:
    whole = batch()
    if name == "targets":
        return (whole["labels"] != IGNORE).sum().double()
    return whole["loss_weights"].double().sum()


def tiny(dtype: torch.dtype, tied: bool) -> TrainModel:
    config = tiny_config(tie_word_embeddings=tied, initializer_range=0.05, hidden_size=64)
    model = build(config, window=WINDOW, backend="exact")
    return model.double() if dtype == torch.float64 else model


def expected_gradients(tied: bool, denominator: Tensor) -> tuple[float, Gradients]:
    """Plain Hugging Face in fp64, document by document, with F.cross_entropy: nothing of ours."""
    ours = tiny(torch.float64, tied).causal_lm
    plain = AutoModelForCausalLM.from_config(ours.config, attn_implementation="sdpa").double()
    plain.load_state_dict(ours.state_dict())
    total = torch.zeros((), dtype=torch.float64)
    for document in documents(batch()):
        if (document["labels"] == IGNORE).all():
            continue
        logits = plain(input_ids=document["input_ids"]).logits[0, :-1]
        ce = F.cross_entropy(logits, document["input_ids"][0, 1:], reduction="none")
        total = total + (document["loss_weights"][0, 1:].double() * ce).sum()
    loss = total / denominator
    loss.backward()
    return loss.item(), {
        f"causal_lm.{name}": weight.grad for name, weight in plain.named_parameters()
    }


def micro_batches(accumulation: int) -> Iterator[dict[str, Tensor]]:
    """This rank's part of the batch."""
    whole, world = batch(), dist.get_world_size()
    size = len(WINDOWS) // (world * accumulation)
    for index in range(accumulation):
        start = (index * world + dist.get_rank()) * size
        rows = slice(start, start + size)
        lengths = [n for window in WINDOWS[rows] for n in window]
        boundaries = torch.tensor([0, *lengths]).cumsum(0).int()
        yield {name: values[rows] for name, values in whole.items()} | {"cu_seqlens": boundaries}


def backward(model: TrainModel, accumulation: int, denominator: Tensor) -> float:
    """Adds a step's gradients; returns the step's loss."""
    total = torch.zeros(1, dtype=torch.float64)
    for part in micro_batches(accumulation):
        loss, _, _ = model(**part, denominator=denominator)
        loss.backward()
        total += loss.item()
    dist.all_reduce(total)
    return total.item()


def whole_gradients(model: TrainModel) -> Gradients:
    found = {}
    for name, weight in model.named_parameters():
        assert isinstance(weight.grad, DTensor)
        found[name] = weight.grad.full_tensor()
    return found


def gradient_cases(mesh: DeviceMesh) -> dict[tuple[Any, ...], tuple[float, Gradients]]:
    found = {}
    for dtype, tied in itertools.product(GRADIENT_TYPES, (False, True)):
        model = tiny(dtype, tied)
        parallelize(model, mesh, dtype=dtype)
        for accumulation, name in itertools.product(ACCUMULATIONS, DENOMINATORS):
            model.zero_grad()
            loss = backward(model, accumulation, denominator(name))
            found[dtype, tied, accumulation, name] = loss, whole_gradients(model)
    return found


def block_cases(mesh: DeviceMesh) -> dict[tuple[bool, bool], tuple[float, Gradients]]:
    """Compiled and checkpointed blocks, fp32."""
    found = {}
    for compiled, checkpointing in itertools.product((False, True), repeat=2):
        model = tiny(torch.float32, tied=False)
        parallelize(
            model, mesh, dtype=torch.float32, checkpointing=checkpointing, compiled=compiled
        )
        found[compiled, checkpointing] = (
            backward(model, 2, denominator("targets")),
            whole_gradients(model),
        )
    return found


def trained(
    mesh: DeviceMesh, dtype: torch.dtype, run: Path, *, resume: bool
) -> tuple[list[float], Gradients]:
    """Losses of the steps, and the weights after them; saves in the middle, or starts there."""
    model = tiny(dtype, tied=True)
    parallelize(model, mesh, dtype=dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    checkpoints = CheckpointManager(run, keep=2)
    first = 0
    if resume:
        path = checkpoints.latest()
        assert path is not None
        checkpoints.load(path, model, optimizer)
        first = SAVED_AFTER
    losses = []
    for step in range(first, STEPS):
        losses.append(backward(model, 1, denominator("targets")))
        optimizer.step()
        optimizer.zero_grad()
        if step + 1 == SAVED_AFTER and not resume:
            checkpoints.save(step + 1, model, optimizer, {})
    checkpoints.wait()
    weights = {
        name: weight.full_tensor()
        for name, weight in model.named_parameters()
        if isinstance(weight, DTensor)
    }
    return losses, weights


def _rank(rank: int, world: int, folder: Path) -> None:
    warnings.simplefilter("error")
    for message in ("`torch.jit.script_method` is deprecated", "The .grad attribute of a Tensor"):
        warnings.filterwarnings("ignore", message=message)
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / f'meeting-{world}'}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=120),
    )
    mesh = init_device_mesh("cpu", (world,))
    found: dict[str, Any] = {"gradients": gradient_cases(mesh)}
    if world == 1:
        found["blocks"] = block_cases(mesh)
    for dtype in RESUMED_TYPES:
        run = folder / f"run-{dtype}"
        if world == 2:
            found["never stopped", dtype] = trained(mesh, dtype, run, resume=False)
        found["resumed", dtype] = trained(mesh, dtype, run, resume=True)
    if rank == 0:
        torch.save(found, folder / f"{world}.pt")
    dist.destroy_process_group()


def run_worlds(folder: Path) -> dict[int, dict[Any, Any]]:
    """What rank 0 found in groups of 2, 1 and 4; the others resume what the first one saved."""
    for world in (2, 1, 4):
        mp.start_processes(_rank, args=(world, folder), nprocs=world, start_method="spawn")
    return {world: torch.load(folder / f"{world}.pt") for world in (1, 2, 4)}
