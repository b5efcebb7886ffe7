"""The offline half: corpora in, weighted Arrow shards out."""
