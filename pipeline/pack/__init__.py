"""From a token store to a shard set, and from one shard set to another with other weights.

job            the job `pack`; `graph` is its Beam graph, `task` what all work units share
settings       what a manifest records, and the weights that follow from it
documents      what selection decides of each document; `repeated_units` and
               `selection_units` find out which are repeated and how often each is seen
plan           which segments each window has; `units` are the work units of packing
shards         writes the windows, with `segment_codes`; `documents_table` and `manifest` write
               the rest
reweigh        the job `reweigh`; `copying` copies files and changes their weights
"""
