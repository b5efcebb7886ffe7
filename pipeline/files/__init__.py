"""Files on a local disk or on any filesystem that fsspec has a driver for.

storage.py     folders: reading, listing, and writing files that appear whole or not at all
arrow.py       Arrow IPC files: written batch by batch, read as memory maps
slices.py      slices of arrays, joined in one call
json_files.py  JSON files that jobs write for themselves
scratch.py     folders in TMPDIR for copies of remote files
"""
