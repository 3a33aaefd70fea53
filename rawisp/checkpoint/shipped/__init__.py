"""Checkpoints that come with the package; made by benchmarks/make_shipped.py."""
