"""A model that one rank has read, given to all ranks.

Every rank could read the file itself: a machine of eight ranks would hold eight whole models in
memory for a moment, and a shared disk would be read by all ranks of the run at once. Instead the
first rank reads, and sends tensor by tensor; every rank keeps its share of each. The others never
have more than one whole tensor.

    first rank     read ── one tensor ──> its share ── the next one ──> ...
    others                     └────────> their share
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

__all__ = ["fill", "values_of"]


def values_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights and the buffers of a model that is not sharded, by name; a tied one once."""
    return {name: tensor.detach() for name, tensor in _tensors(model)}


@torch.no_grad()
def fill(model: nn.Module, values: dict[str, Tensor] | None, device: torch.device) -> None:
    """Gives a sharded model the values that the first rank has.

    Args:
        model: sharded over ranks; all ranks call this.
        values: on the first rank, as `values_of` the same model before it was sharded; None on the
            others.
        device: where tensors travel.
    """
    for name, tensor in _tensors(model):
        if values is None:
            whole = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        else:
            whole = values.pop(name).to(device)
        dist.broadcast(whole, src=0)
        own = tensor
        if isinstance(tensor, DTensor):
            placed = distribute_tensor(
                whole, tensor.device_mesh, tensor.placements, src_data_rank=None
            )
            own, whole = tensor.to_local(), placed.to_local()
        own.copy_(whole)


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]
