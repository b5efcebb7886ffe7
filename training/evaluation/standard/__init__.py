"""Benchmarks of others, through lm-evaluation-harness."""
