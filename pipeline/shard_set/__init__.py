"""A finished shard set, read again: manifest, windows, documents."""
