"""Corpora: which files they have, their splits, their records."""
