"""The suite `nolima`: NoLiMa's protocol (arXiv 2502.05167), with data that the user has."""
