"""Corpora: which files they are made of, how these are divided into work, and their records.

    --source [NAME=]PATTERN[,text=FIELD][,id=FIELD][,tokens=FIELD][,format=F][,split=NAME]

naming.py    what a source without a name is called
listing.py   the files of a source; hub.py, data sets by their Hugging Face name
matching.py  what a pattern matches; saved.py, the folders that `datasets` saved
companions.py says which files belong to another one, such as its index
sifting.py   which of these files belong to a source: formats.py, leftovers.py, tables.py, twins.py,
             named_splits.py and cards.py have the rules
splits.py    the work units: byte ranges of plain JSON Lines, row groups of Parquet, documents of
             files of token ids, a whole compressed file, or several small files
scanning.py  one pass over a file: its digest and line numbers
reading.py   the records of a split, in batches of a few MiB; jsonl.py and columns.py parse them,
             records.py says what a batch is
gathering.py records that are found one by one, as batches: delimited.py reads CSV and TSV,
             webdataset.py archives of tar, wet.py the texts of Common Crawl
rows.py      rows of token ids, whatever they mean: megatron.py, datatrove.py and npy.py read them
             from files of plain numbers, mds.py from shards that mds_index.py lists

Files and splits depend on the inputs and `split_bytes` alone.
"""
