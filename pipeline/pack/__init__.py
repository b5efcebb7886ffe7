"""From a token store to a shard set, and from one shard set to another with other weights."""
