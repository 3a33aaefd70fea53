"""Reading photographs, whatever a JPEG or PNG may hold, as they are displayed."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rawisp.data.synth.render import mosaic_size
from rawisp.errors import CorruptFileError, InputError, TooLargeError
from rawisp.raw import DEFAULT_MAX_MEGAPIXELS, open_regular_file

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTOGRAPH_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def read_photograph(
    path: str | os.PathLike[str],
    *,
    scale: float = 1.0,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> npt.NDArray[np.uint8]:
    """sRGB uint8 (h, w, 3), turned upright as its EXIF orientation says.

    Boxes refer to this picture, as viewers and Pillow's `exif_transpose` show it. Grey and palette
    pictures become RGB, 16 bits are rounded to 8, transparent parts lie on black, CMYK is converted
    without a profile; embedded profiles are not applied. InputError when it cannot be used, or when
    its mosaic at `scale` would have more than `max_megapixels`.
    """
    from PIL import Image, ImageOps

    name = os.fspath(path)
    try:
        with open_regular_file(name) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own size limit, and of odd EXIF
            with Image.open(file) as opened:
                _check_size(name, opened.size, scale, max_megapixels)
                upright = ImageOps.exif_transpose(opened)
                return _as_rgb(upright)
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise TooLargeError(
            name, "has far more pixels than a photograph", "scale it down"
        ) from None
    except Exception as error:  # Pillow raises what its decoders happen to
        what = type(error).__name__
        raise CorruptFileError(name, f"is damaged or no photograph ({what})") from None


def _check_size(name: str, size: tuple[int, int], scale: float, max_megapixels: float) -> None:
    width, height = mosaic_size(size, scale)
    if width * height > max_megapixels * 1e6:
        raise TooLargeError(
            name,
            f"would become a mosaic of {width}x{height}, more than {max_megapixels:g} megapixels",
            "lower --scale or raise --max-megapixels",
        )


def _as_rgb(image: Image) -> npt.NDArray[np.uint8]:
    import PIL.Image

    if image.mode.startswith("I"):  # 16 bits, however stored
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        levels = ((grey + 128) // 257).astype(np.uint8)
        return np.stack([levels] * 3, axis=-1)
    if image.mode == "F":
        raise ValueError("floating-point values of unknown range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = PIL.Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = PIL.Image.alpha_composite(black, image)
    return np.array(image.convert("RGB"))
