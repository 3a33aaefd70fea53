"""AdaptiveISP: an agent that applies a few of ten operators, one after another."""
