"""What packing and weighting do to a corpus: counted, estimated, and shown."""
