"""Shards and weights in the training loops of others: windows in order, rows, the loss of a step.

    stream = WindowStream(ShardDataset("shards"), batch_size=2)
    loader = DataLoader(stream, batch_size=2, collate_fn=flatten)
    model.loss_function = weighted_loss           a causal language model of transformers

    step = list(islice(loader, 4))                the micro-batches of one step
    targets = count_targets(step)                 D, over all of them and all ranks
    for batch in step:
        (model(**batch, num_items_in_batch=targets).loss * ranks).backward()

The factor `ranks`, their number, is for trainers that average gradients over ranks, as DDP and FSDP
do. Nothing here imports transformers.
"""

from ..models.loss import shift
from ..windows.batches import ShardDataset
from .loss import count_targets, weighted_loss
from .rows import flatten
from .stream import WindowStream

__all__ = ["ShardDataset", "WindowStream", "count_targets", "flatten", "shift", "weighted_loss"]
