"""The windows of a shard set in other formats: those of other trainers, and Parquet.

checked.py   the windows, each file compared with the manifest before any of it counts
mds.py       as a data set of MosaicML Streaming
megatron.py  as indexed data sets of Megatron-LM: one of tokens, one of weights
parquet.py   as Parquet files, for whatever reads tables
job.py       a shard set in, a folder out
"""
