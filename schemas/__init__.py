"""The contract between the pipeline and any trainer: file formats, errors and settings.

README.md    the formats, column by column, with examples of readers
shard.py     columns and names of shards and of the documents table
store.py     columns and names of a token store's parts
manifest.py  manifests as JSON, checked against the *.schema.json files beside it
weights.py   weight tables as files
errors.py    what users see when something fails, with exit codes
pointers.py  files of Git LFS and git-annex whose content is elsewhere
hub.py       tokenizers and models by their name on the Hugging Face hub
settings.py  configuration files; sizes.py, counts such as 256M or "1 window"
disk.py      how a file gets onto a disk whole; disk_errors.py, errors of the system in words
remote.py    files on servers, requests tried again; remote_errors.py, their errors in words
sealed.py    JSON records that notice when they were altered
runs.py      sequences in runs of bounded size

What both halves need to read files from strangers, and to print what is in them:

regular.py      only ordinary files, inside their folder    json_text.py    strict JSON
consistency.py  whether a manifest agrees with itself       windows.py      checked windows
shard_set.py    a finished set, open                        mapped.py       its shards, mapped
cached_set.py   the copy of one that is on a server
shard_windows.py  its windows, by their numbers
ipc.py          Arrow's descriptions, before its data       printable.py    text without controls
terminal.py     all that is printed                         rust.py          errors of libraries
"""
