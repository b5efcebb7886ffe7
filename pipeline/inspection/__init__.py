"""What packing and weighting do to a corpus: counted, estimated, and shown.

counted.py         figures of a token store or shard set
estimated.py       figures of raw corpora, from a sample
sampling.py        the sample
occurrences.py     the training documents of a store in packed order
subject.py         what was inspected, and its rows
as_json.py         an inspection as JSON, with its types in json_types.py
as_csv.py          ... as CSV
tables/            ... on a terminal
report/            ... as a page and a picture
command_lines.py   the command that makes what a row describes
"""
