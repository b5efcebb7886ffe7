"""One rank reads the weights, and all ranks have them."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from models import tiny_config
from ranks import on_ranks
from tiny import config, shards_and_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from exactcpt.training.models import model as of_model
from exactcpt.training.models.model import build, parallelize
from exactcpt.training.models.spreading import fill, values_of
from exactcpt.training.train import train

pytestmark = pytest.mark.slow

RANKS = 4
KINDS = ("llama", "qwen3", "smollm3")
SHAPES = {"shard": (RANKS,), "replicate": (2, 2)}


def filled(seed: int) -> list[tuple[tuple[str, bool, str], dict[str, bool]]]:
    """For each model and mesh: whether each tensor is that of the first rank."""
    dist.init_process_group("gloo")
    found = []
    for kind, tied, mesh in itertools.product(KINDS, (False, True), SHAPES):
        described = tiny_config(kind, tie_word_embeddings=tied, vocab_size=67)
        model = build(described, window=64, backend="exact", empty=True)
        # Another rank would draw other weights, and has none to give.
        drawn = values_of(build(described, window=64, backend="exact", seed=seed + dist.get_rank()))
        expected = values_of(build(described, window=64, backend="exact", seed=seed))
        names = ("replicate", "shard") if mesh == "replicate" else ("shard",)
        parallelize(
            model, init_device_mesh("cpu", SHAPES[mesh], mesh_dim_names=names), dtype=torch.float32
        )
        fill(model, drawn if dist.get_rank() == 0 else None, torch.device("cpu"))
        head, embedding = model.causal_lm.lm_head.weight, model.causal_lm.get_input_embeddings()
        same = {"tied": (head is embedding.weight) == tied}
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            same[name] = torch.equal(whole, expected.pop(name))
        assert not expected
        found.append(((kind, tied, mesh), same))
    dist.destroy_process_group()
    return found


def read_by(made: Path, out: Path) -> list[str]:
    """The folders whose weights a rank reads when a run begins."""
    read: list[str] = []
    load = of_model._load

    def loading(*args: Any) -> Any:
        read.append(str(args[0].name))
        return load(*args)

    of_model._load = loading  # type: ignore[assignment]
    try:
        train(config(made, out, steps=1, micro_batch=1), lambda _: None)
    finally:
        of_model._load = load
    return read


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return shards_and_model(tmp_path_factory.mktemp("spreading"))


@pytest.fixture(scope="module")
def found(made, tmp_path_factory) -> list[list[Any]]:
    return on_ranks(
        RANKS, [(filled, (3,)), (read_by, (made, tmp_path_factory.mktemp("out") / "r"))]
    )


def test_all_ranks_have_the_weights_of_the_first(found):
    for of_rank in found[0]:
        assert len(of_rank) == len(KINDS) * 2 * len(SHAPES)
        for case, same in of_rank:
            assert all(same.values()), (case, [name for name, equal in same.items() if not equal])


def test_only_the_first_rank_reads_them(found):
    assert found[1] == [["model"], [], [], []]
