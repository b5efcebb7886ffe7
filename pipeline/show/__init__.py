"""Windows of a shard set, laid out for a person.

views.py       what is shown: windows, a document through its windows, where extra weight is
spans.py       the segments with extra weight, and the heaviest of each document
decoding.py    token ids to readable text
lines.py       tokens to lines, each of one weight
text.py        a view on a terminal
as_html.py     a view as a page
"""
