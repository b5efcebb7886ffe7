"""A shard set as a data set that can be shown: for the Hugging Face hub, or any shelf of folders.

settings.py  what the publisher says: format, title, licence
licences.py  SPDX identifiers as the hub spells them
markdown.py  tables, and names of strangers as Markdown
loading.py   how the windows and the documents are loaded, by format
card.py      README.md: what the data set is, how to load it, where it comes from
files.py     one file of the set: copied, or written as Parquet
job.py       a shard set in, a published folder out
push.py      such a folder, uploaded to the hub
"""
