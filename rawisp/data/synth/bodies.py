"""The cameras whose nights can be made, and their files."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from rawisp.data.synth.settings import SENSOR_NOISE, SensorNoise
from rawisp.errors import UsageError
from rawisp.raw.container import CAMERA_BODIES, CameraBody, dng_tags, write_container

SMALLEST_SIDE = 22  # of a RAW file, in pixels: LibRaw takes smaller ones for no RAW files

# A DNG states levels and matrix itself and needs no table; its sensor is the D750's.
_D65 = 21  # EXIF's code of the light source, for DNG's CalibrationIlluminant
BODIES: dict[str, CameraBody] = {
    **CAMERA_BODIES,
    "dng": CameraBody(
        "rawisp", "night", ".DNG", 512, 16383, CAMERA_BODIES["NIKON D750"].xyz_to_camera
    ),
}


def body_named(name: str) -> CameraBody:
    """The camera called `name`. UsageError lists those that there are."""
    if name not in BODIES:
        raise UsageError(f"camera {name!r} is none of {', '.join(BODIES)}")
    return BODIES[name]


def noise_of(body: CameraBody) -> SensorNoise:
    """The sensor noise of `body`. UsageError for one that is not ours."""
    for name, known in BODIES.items():
        if known == body:
            return SENSOR_NOISE[name]
    raise UsageError(f"no noise is known for {body.model}; set noise to False")


def write_night(
    path: str | os.PathLike[str],
    mosaic: npt.NDArray[np.uint16],
    body: CameraBody,
    *,
    pattern: str = "RGGB",
    iso: int | None = None,
) -> None:
    """Writes a mosaic of `night_mosaic` as a RAW file of `body`."""
    own = body.suffix == ".DNG"
    matrices = [(_D65, body.xyz_to_camera)]
    write_container(
        path,
        mosaic,
        make=body.make,
        model=body.model,
        pattern=pattern,
        iso=iso,
        extra_tags=dng_tags(color_matrices=matrices, black=(body.black,), white=body.white)
        if own
        else (),
    )
