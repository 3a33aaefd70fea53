"""Weights of detectors that come with the package; made by benchmarks/make_tiny.py."""
