"""Windows of a shard set, laid out for a person."""
