"""The contract between the pipeline and whoever trains: file formats, and nothing that computes."""
