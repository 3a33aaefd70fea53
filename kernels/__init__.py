"""Numba kernels: arrays in, arrays out; no I/O, no raise, no opinions.

Callers validate shapes, dtypes and levels and pass the output array in. A kernel handles rows
[first, last) so that its caller may split the rows among threads (they release the GIL).
"""

if __name__ != "rawisp.kernels":
    # A cached kernel remembers the module name it was compiled under; a cache written as
    # `kernels.bayer` would break every later `rawisp.kernels.bayer`.
    raise ImportError("import rawisp.kernels, not kernels")
