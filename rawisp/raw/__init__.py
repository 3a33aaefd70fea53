"""Reading a camera RAW file: `open_raw(path)` gives a `RawFrame`, or one of rawisp's errors."""

from rawisp.raw.facts import Overrides
from rawisp.raw.formats import RAW_SUFFIXES
from rawisp.raw.frame import Exposure, RawFrame
from rawisp.raw.reader import DEFAULT_MAX_MEGAPIXELS, open_raw, open_regular_file, read_frames

__all__ = [
    "DEFAULT_MAX_MEGAPIXELS",
    "RAW_SUFFIXES",
    "Exposure",
    "Overrides",
    "RawFrame",
    "open_raw",
    "open_regular_file",
    "read_frames",
]
