"""Checkpoints that come with the package; made by benchmarks/make_classic.py."""
