"""The windows of a shard set in the formats of other trainers.

checked.py   the windows, each file compared with the manifest before any of it counts
mds.py       as a data set of MosaicML Streaming
megatron.py  as indexed data sets of Megatron-LM: one of tokens, one of weights
job.py       a shard set in, a folder out
"""
