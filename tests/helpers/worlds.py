"""What the ranks of a process group do for the tests: one group per size, all cases inside."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from models import documents, packed, tiny_config
from ranks import on_ranks
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from exactcpt.training.models.loss import IGNORE
from exactcpt.training.models.model import TrainModel, build, parallelize, reduce_at
from exactcpt.training.run.checkpoint import CheckpointManager

WINDOW = 48
# 16 windows, of which micro-batches get other kinds: one long document each, no target at all,
# little padding, many short documents.
KINDS = [[WINDOW, 0], [1] * 3 + [45], [40, 8], [3] * 5 + [9] * 3 + [6]]
WINDOWS = [lengths for lengths in KINDS for _ in range(4)]
ACCUMULATIONS = (1, 4)
ADDED = 4  # micro-batches of each rank whose gradients are compared one by one
DENOMINATORS = ("targets", "sum_w")
GRADIENT_TYPES = (torch.float32, torch.bfloat16)
RESUMED_TYPES = (torch.float64, torch.bfloat16)
STEPS, SAVED_AFTER = 5, 2
KEPT = ("all", "products", "nothing")
"""What is kept of a block's activations for its backward pass."""

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


def peer_gradients(tied: bool, denominator: Tensor, dtype: torch.dtype) -> Gradients:
    """Plain Hugging Face in any type: the packed batch with a mask, and F.cross_entropy.

    Logits are cast to fp32 before the loss, as Hugging Face does it.
    """
    source, whole = tiny(torch.float32, tied).causal_lm, batch()
    plain = AutoModelForCausalLM.from_config(source.config, attn_implementation="sdpa")
    plain.load_state_dict(source.state_dict())
    cast_weights(plain, dtype)
    logits = plain(
        input_ids=whole["input_ids"],
        position_ids=whole["position_ids"],
        attention_mask=document_mask(whole),
        use_cache=False,
    ).logits
    exact = torch.promote_types(dtype, torch.float32)
    ce = F.cross_entropy(
        logits[:, :-1].flatten(0, 1).to(exact), whole["labels"][:, 1:].flatten(), reduction="none"
    )
    weights = whole["loss_weights"][:, 1:].flatten().to(exact)
    ((weights * ce).sum() / denominator.to(exact)).backward()
    return {f"causal_lm.{name}": weight.grad for name, weight in plain.named_parameters()}


def document_mask(batch: dict[str, Tensor]) -> Tensor:
    """Whether a query sees a key, bool [B, 1, L, L]."""
    count, length = batch["input_ids"].shape
    places = torch.arange(count * length)
    segment = torch.bucketize(places, batch["cu_seqlens"].long(), right=True).view(count, length)
    same = segment[:, :, None] == segment[:, None, :]
    return (same & torch.ones(length, length, dtype=torch.bool).tril()).unsqueeze(1)


def cast_weights(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """The weights alone: frequencies of the rotary embedding stay as they are, as under FSDP2."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)


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


def backward(
    model: TrainModel, accumulation: int, denominator: Tensor, *, once: bool = False
) -> float:
    """Adds a step's gradients; returns the step's loss."""
    total = torch.zeros(1, dtype=torch.float64)
    for number, part in enumerate(micro_batches(accumulation), 1):
        reduce_at(model, last=number == accumulation, once=once)
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


def gradient_cases(
    mesh: DeviceMesh,
    ties: Sequence[bool] = (False, True),
    denominators: Sequence[str] = DENOMINATORS,
) -> dict[tuple[Any, ...], tuple[float, Gradients]]:
    found = {}
    for dtype, tied in itertools.product(GRADIENT_TYPES, ties):
        model = tiny(dtype, tied)
        parallelize(model, mesh, dtype=dtype)
        for accumulation, name in itertools.product(ACCUMULATIONS, denominators):
            model.zero_grad()
            loss = backward(model, accumulation, denominator(name))
            found[dtype, tied, accumulation, name] = loss, whole_gradients(model)
    return found


def once_reduced(mesh: DeviceMesh) -> dict[tuple[torch.dtype, int], tuple[float, Gradients]]:
    """Gradients of steps that sum over the ranks once; a step before them leaves nothing behind."""
    found = {}
    for dtype in GRADIENT_TYPES:
        model = tiny(dtype, tied=True)
        parallelize(model, mesh, dtype=dtype)
        for accumulation in ACCUMULATIONS:
            for _ in range(2):
                model.zero_grad()
                loss = backward(model, accumulation, denominator("targets"), once=True)
            found[dtype, accumulation] = loss, whole_gradients(model)
    return found


def added_gradients(tied: bool, accumulation: int) -> Gradients:
    """Without FSDP2: the bf16 gradients of every micro-batch of every rank, added in fp64."""
    model = tiny(torch.bfloat16, tied)
    cast_weights(model, torch.bfloat16)
    found = {
        name: torch.zeros_like(weight, dtype=torch.float64)
        for name, weight in model.named_parameters()
    }
    for part in micro_batches(accumulation):
        model.zero_grad()
        model(**part, denominator=denominator("targets"))[0].backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None
            found[name] += weight.grad
    for total in found.values():
        dist.all_reduce(total)
    return found


def block_cases(mesh: DeviceMesh) -> dict[tuple[bool, str], tuple[float, Gradients]]:
    """Compiled and checkpointed blocks, fp32."""
    found = {}
    for compiled, kept in itertools.product((False, True), KEPT):
        model = tiny(torch.float32, tied=False)
        parallelize(
            model,
            mesh,
            dtype=torch.float32,
            checkpointing=kept != "all",
            keeps_products=kept == "products",
            compiled=compiled,
        )
        found[compiled, kept] = (
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


def found_in_a_world(folder: Path) -> None:
    """All cases of this world size; rank 0 writes them down."""
    dist.init_process_group("gloo", timeout=timedelta(seconds=120))
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    found: dict[Any, Any] = {"gradients": gradient_cases(mesh)}
    found["once"] = once_reduced(mesh)
    if world == 4:
        two_by_two = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
        found["two by two"] = gradient_cases(two_by_two, [True], ["targets"])
        found["two by two, once"] = once_reduced(two_by_two)
    found["added"] = {tied: added_gradients(tied, ADDED) for tied in (False, True)}
    if world == 1:
        found["blocks"] = block_cases(mesh)
    for dtype in RESUMED_TYPES:
        run = folder / f"run-{dtype}"
        if world == 2:
            found["never stopped", dtype] = trained(mesh, dtype, run, resume=False)
        found["resumed", dtype] = trained(mesh, dtype, run, resume=True)
    if dist.get_rank() == 0:
        torch.save(found, folder / f"{world}.pt")
    dist.destroy_process_group()


def run_worlds(folder: Path) -> dict[int, dict[Any, Any]]:
    """What rank 0 found in groups of 2, 1 and 4; the others resume what the first one saved."""
    for world in (2, 1, 4):
        on_ranks(world, [(found_in_a_world, (folder,))])
    return {world: torch.load(folder / f"{world}.pt") for world in (1, 2, 4)}
