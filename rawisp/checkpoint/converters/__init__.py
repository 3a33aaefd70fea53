"""Weights of published code, renamed and rearranged into our ISPs: a file per family."""
