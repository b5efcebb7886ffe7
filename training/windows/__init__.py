"""The windows that a run trains on: the shard set, their order, the weights of their targets."""
