"""The training half: weighted shards in, a model out."""
