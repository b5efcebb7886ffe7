"""A finished shard set, read back.

recognize.py  tells shard sets, token stores and other paths apart
manifest.py   checks of its manifest and of the files that it lists
windows.py    its windows, or the segments of all of them without their tokens
counts.py     its histogram, counted again
unchanged.py  whether it is still the one that was opened
documents.py  single rows of its documents table

Whether the set is correct is for `verify` to say, which shares none of this code.
"""
