"""The sensor: one colour per pixel, electrons, noise, converter.

e = light x electrons at white
sample = black + codes of  Poisson(e) + N(0, read) + N(0, converter) + N(0, row), 14 bits
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rawisp.data.synth.sampling import Plane, sampled
from rawisp.data.synth.scene import Planes
from rawisp.data.synth.settings import SensorNoise
from rawisp.raw.container import CameraBody

# Light beyond this changes nothing: it saturates whatever the noise.
_BEYOND_WHITE = 1.5
_LARGEST_14_BIT_CODE = 16383


def mosaicked(light: Planes, height: int, width: int, pattern: str) -> Plane:
    """Camera RGB (3, h, w) as a mosaic of (height, width) sees it: resized, a colour per pixel."""
    mosaic = np.empty((height, width), np.float32)
    for position, letter in enumerate(pattern):
        rows, columns = slice(position // 2, None, 2), slice(position % 2, None, 2)
        plane = light["RGB".index(letter)]
        mosaic[rows, columns] = sampled(plane, height, width, rows, columns)
    return mosaic


def read_out(
    light: Plane,
    body: CameraBody,
    noise: SensorNoise | None,
    iso: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint16]:
    """Samples of a mosaic's light (H, W), in which 1 reaches the white level; noise: None for none.

    Black is added before anything is cut, so noise goes below it.
    """
    # LibRaw takes 65535 as white where a 14-bit converter fills a 16-bit strip (see CameraBody):
    # four of its levels are one code.
    levels_per_code = 4 if body.white > _LARGEST_14_BIT_CODE else 1
    codes = (body.white - body.black) / levels_per_code
    samples = np.clip(light, 0.0, _BEYOND_WHITE)
    if noise is None:
        samples *= np.float32(codes)
    else:
        electrons_per_code = noise.electrons_at_white(iso) / codes
        samples *= np.float32(noise.electrons_at_white(iso))
        samples = counted(samples, noise, electrons_per_code, rng)
        samples /= np.float32(electrons_per_code)
    np.rint(samples, out=samples)
    samples *= levels_per_code
    samples += body.black
    return np.clip(samples, 0, body.white, out=samples).astype(np.uint16)


def counted(
    electrons: Plane, noise: SensorNoise, electrons_per_code: float, rng: np.random.Generator
) -> Plane:
    """Expected `electrons` (H, W) with shot, read, converter and row noise.

    Poisson(e) + N(0, s) has mean e, variance V = e + s^2 and third moment e. It is drawn from one
    normal z per pixel by the Cornish-Fisher expansion that keeps all three,

        e + sqrt(V - 2 q^2) z + q (z^2 - 1),    q = e / (6 V),

    four times as fast as a Poisson generator and with as many draws for every picture. A read noise
    above one electron hides that Poisson's counts are whole: a test compares the two.
    """
    independent = noise.read_electrons**2 + (noise.converter_codes * electrons_per_code) ** 2
    variance = electrons + np.float32(independent)
    q = electrons / variance
    q *= np.float32(1 / 6)
    z = rng.standard_normal(electrons.shape, dtype=np.float32)
    rows = rng.standard_normal((electrons.shape[0], 1), dtype=np.float32)
    variance -= 2 * q * q
    result: Plane = np.sqrt(variance, out=variance)
    result *= z
    z *= z
    z -= 1
    z *= q
    result += z
    result += electrons
    result += rows * np.float32(noise.row_electrons)
    return result
