"""From corpora to a token store."""
