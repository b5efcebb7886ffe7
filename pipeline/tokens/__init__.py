"""Tokenization: from corpora to a token store, a folder of parts with an index each.

job.py        the job: plan, graph, manifest; a second run continues where the first stopped
plan.py       everything known before any work: tokenizer, special ids, input files
probe.py      the beginning of every source; estimate.py, how large the output will be
tokenizer.py  a tokenizer's files, special ids; unusable.py, why a file is no tokenizer
encoding.py   the tokenizer.json that documents are encoded with; encoders.py, text to ids
documents.py  which document cannot be encoded; fidelity.py, what tokens do not say of their text
backend.py    which of the two libraries encodes; parity.py, whether they agree
units.py      the work units that graph.py gives to Beam; task.py, what they have in common
parts.py      the parts of a split; builder.py writes one part; hashes.py, its content hashes
manifest.py   the store's manifest, from the summaries of all parts
store.py      reads the parts of a finished store
"""
