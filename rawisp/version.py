"""The version, alone in a file: packaging and `rawisp --version` read it and nothing else."""

__version__ = "0.1.0"
