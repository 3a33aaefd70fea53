"""Functions of whole rows, written so that compilers make vector instructions of their loops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rawisp.kernels.jit import kernel, summing_kernel

F32 = npt.NDArray[np.float32]
ONE = np.float32(1.0)


@kernel
def logarithms(values: F32, mantissas: F32, out: F32) -> None:
    """Natural logarithms of normal positive numbers, (n,); `mantissas` (n,) is room to work.

    Written so that loops become vector instructions, which calls of a library's function prevent.
    The polynomial is logf's of the Cephes library; the error is about one unit in the last place.
    """
    bits, kept = values.view(np.int32), mantissas.view(np.int32)
    for n in range(values.size):
        # Exponent and mantissa, such that the mantissa lies between the root of 1/2 and of 2.
        high = np.int32((bits[n] & 0x007FFFFF) > 0x003504F3)
        kept[n] = (bits[n] & 0x007FFFFF) | ((np.int32(127) - high) << 23)
        out[n] = np.float32((bits[n] >> 23) - np.int32(127) + high)
    for n in range(values.size):
        m = mantissas[n] - ONE
        p = np.float32(7.0376836292e-2)
        p = p * m - np.float32(1.1514610310e-1)
        p = p * m + np.float32(1.1676998740e-1)
        p = p * m - np.float32(1.2420140846e-1)
        p = p * m + np.float32(1.4249322787e-1)
        p = p * m - np.float32(1.6668057665e-1)
        p = p * m + np.float32(2.0000714765e-1)
        p = p * m - np.float32(2.4999993993e-1)
        p = p * m + np.float32(3.3333331174e-1)
        square = m * m
        rest = p * m * square - np.float32(0.5) * square
        # The difference is 0, and NaN where the value is none.
        out[n] = m + rest + out[n] * np.float32(0.6931471805599453) + (values[n] - values[n])


@kernel
def exponentials(values: F32, powers: F32, out: F32) -> None:
    """e to the power of numbers (n,), cut to [-87, 88]; `powers` (n,) is room to work.

    As `logarithms`; the polynomial is expf's of the Cephes library.
    """
    bits = powers.view(np.int32)
    for n in range(values.size):
        value = min(max(np.float32(-87.0), values[n]), np.float32(88.0))  # -87 for NaN
        whole = np.floor(value * np.float32(1.44269504088896341) + np.float32(0.5))
        bits[n] = (np.int32(whole) + np.int32(127)) << 23
        r = value - whole * np.float32(0.693359375) + whole * np.float32(2.12194440e-4)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        out[n] = p * r * r + r + ONE
    for n in range(values.size):
        out[n] = out[n] * powers[n] + (values[n] - values[n])


@summing_kernel
def dot(a: F32, b: F32) -> float:
    """The sum of products."""
    total = 0.0
    for n in range(a.size):
        total += a[n] * b[n]
    return total
