"""From windows that somebody else has packed to a shard set: the same windows, with weights.

    sources ──> count the windows of every split ──> histogram ──> weights ─┐
                      └──────────────────> numbered shards ────────────────┴──> shards, documents

The rows are read twice: the weights of the first shard depend on the last row. Nothing is
tokenized, packed, shuffled or dropped; a row becomes a window, and its segments are the documents
of the set.

plan        tokenizer, files, window length, and where the boundaries are
lists       lists that were read, as rows
rows        packed rows, cut into segments          counting    the first reading
job         the job `weigh`; `graph` is its Beam graph, `task` what all work units share
units       the work units                          manifest    the manifest
memory      the job for windows that a program has in memory
"""
