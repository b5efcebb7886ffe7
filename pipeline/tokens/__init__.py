"""Tokenization: from corpora to a token store, a folder of parts with an index each.

job.py        the job: plan, graph, manifest; a second run continues where the first stopped
plan.py       everything known before any work: tokenizer, special ids, input files
probe.py      the beginning of every source; estimate.py, how large the output will be
tokenizer.py  tokenizer.json, special ids; encoders.py, text to ids; parity.py, whether two agree
backend.py    which of the two libraries encodes
units.py      the work units that graph.py gives to Beam; task.py, what they have in common
parts.py      the parts of a split; builder.py writes one part; hashes.py, its content hashes
manifest.py   the store's manifest, from the summaries of all parts
store.py      reads the parts of a finished store
"""
