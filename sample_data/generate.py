"""Writes sample_data/night: small annotated night RAW files in the shape of RAW-NOD.

    python -m sample_data.generate [OUT]

Rendered streets (street.py) as a Sony DSC-RX100M7 and a Nikon D750 would record them: linear light
to camera RGB through the camera's own matrix, Bayer mosaic, Poisson-Gaussian noise, black level,
14-bit quantisation, real .ARW and .NEF containers. Seeded: the same NumPy on the same kind of
processor writes the same bytes. Licence of the pictures: MIT, like the rest.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rawisp.color import XYZ_FROM_LINEAR_SRGB
from rawisp.geometry import FLIP_FROM_EXIF_ORIENTATION, flip_affine, flip_array, inverse_flip
from rawisp.packing import PHASES
from rawisp.raw.container import CAMERA_BODIES, CameraBody, write_container

from .street import Box, render_street

WIDTH, HEIGHT = 600, 400
# Photo-electrons at the clipping point (small at high ISO) and read noise, per camera.
FULL_WELL_ELECTRONS = {"DSC-RX100M7": 3200.0, "NIKON D750": 6000.0}
READ_NOISE_ELECTRONS = {"DSC-RX100M7": 3.0, "NIKON D750": 4.0}
CATEGORIES = {"person": 1, "bicycle": 2, "car": 3}  # COCO's ids
SUPERCATEGORIES = {"person": "person", "bicycle": "vehicle", "car": "vehicle"}


@dataclass(frozen=True)
class Shot:
    """One file: name, camera, scene seed, EXIF orientation and exposure facts."""

    stem: str
    model: str
    seed: int
    exif_orientation: int = 1
    iso: int = 3200
    shutter_s: float = 0.02
    aperture_f: float = 2.8
    focal_length_mm: float = 9.0

    @property
    def body(self) -> CameraBody:
        return CAMERA_BODIES[self.model]


SHOTS = (
    Shot("DSC01316", "DSC-RX100M7", 3, iso=3200),
    Shot("DSC01345", "DSC-RX100M7", 7, iso=6400, shutter_s=0.01),
    Shot("DSC02222", "DSC-RX100M7", 11, iso=3200),
    Shot("DSC02799", "DSC-RX100M7", 14, exif_orientation=6, iso=3200, shutter_s=0.0333),
    Shot("DSC02986", "DSC-RX100M7", 18, iso=1600, shutter_s=0.0667),
    Shot("DSC03418", "DSC-RX100M7", 21, iso=6400),
    Shot("DSC04103", "DSC-RX100M7", 26, iso=3200),
    Shot("DSC_0674", "NIKON D750", 31, iso=3200, aperture_f=1.8, focal_length_mm=35.0),
    Shot("DSC_1203", "NIKON D750", 34, iso=6400, aperture_f=1.8, focal_length_mm=35.0),
    Shot("DSC_1788", "NIKON D750", 38, iso=3200, aperture_f=2.0, focal_length_mm=50.0),
    Shot("DSC_2415", "NIKON D750", 42, iso=12800, aperture_f=2.0, focal_length_mm=50.0),
    Shot("DSC_3059", "NIKON D750", 45, iso=3200, aperture_f=1.8, focal_length_mm=35.0),
    Shot("DSC_4219", "NIKON D750", 47, iso=6400, aperture_f=1.8, focal_length_mm=35.0),
    Shot("DSC_5266", "NIKON D750", 49, iso=3200, aperture_f=2.8, focal_length_mm=24.0),
)


def through_lens(radiance: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Blurred by a lens and its low-pass filter: binomial, one sensor pixel of sigma.

    Without it each edge would fall between the colours of a 2x2 cell, as in no photograph.
    """
    image = np.pad(radiance.astype(np.float64), ((2, 2), (2, 2), (0, 0)), mode="edge")
    taps = np.array([1, 4, 6, 4, 1]) / 16
    height, width = radiance.shape[:2]
    rows = sum(tap * image[k : k + height] for k, tap in enumerate(taps))
    return np.asarray(sum(tap * rows[:, k : k + width] for k, tap in enumerate(taps)))


def camera_mosaic(
    radiance: npt.NDArray[np.floating], body: CameraBody, seed: int
) -> npt.NDArray[np.uint16]:
    """uint16 (H, W) RGGB samples of linear sRGB radiance (H, W, 3); 1.0 clips.

    The draws of the noise do not depend on the picture, so a last-bit difference of the renderer
    cannot shift them.
    """
    to_camera = np.array(body.xyz_to_camera) @ XYZ_FROM_LINEAR_SRGB
    camera = np.clip(np.einsum("ij,hwj->hwi", to_camera, through_lens(radiance)), 0.0, None)
    cell = np.array([0, 1, 2, 1])[list(PHASES["RGGB"])].reshape(2, 2)
    height, width = radiance.shape[:2]
    colors = np.tile(cell, (height // 2, width // 2))
    light = np.take_along_axis(camera, colors[..., None], axis=2)[..., 0]
    full_well = FULL_WELL_ELECTRONS[body.model]
    electrons = np.minimum(light, 1.5) * full_well
    rng = np.random.Generator(np.random.PCG64([seed, int(full_well)]))
    shot = np.sqrt(electrons) * rng.standard_normal(light.shape)
    read = READ_NOISE_ELECTRONS[body.model] * rng.standard_normal(light.shape)
    step = 4 if body.white == 65535 else 1  # a 14-bit converter in a 16-bit strip
    scale = (body.white - body.black) / step
    counts = np.rint((electrons + shot + read) / full_well * scale) * step + body.black
    return np.clip(counts, 0, body.white).astype(np.uint16)


def render_shot(shot: Shot) -> tuple[npt.NDArray[np.uint16], tuple[Box, ...]]:
    """(mosaic as the sensor saw it, boxes in its pixels) of one shot."""
    flip = FLIP_FROM_EXIF_ORIENTATION[shot.exif_orientation]
    size = (HEIGHT, WIDTH) if flip & 4 else (WIDTH, HEIGHT)
    street = render_street(shot.seed, *size)
    undo = inverse_flip(flip)
    planar = flip_array(np.moveaxis(street.night, -1, 0), undo)
    mosaic = camera_mosaic(np.moveaxis(planar, 0, -1), shot.body, shot.seed)
    back = flip_affine(undo, *size)
    corners = back.boxes([[b.x, b.y, b.width, b.height] for b in street.boxes])
    boxes = tuple(
        Box(b.category, *(float(v) for v in xywh))
        for b, xywh in zip(street.boxes, corners, strict=True)
    )
    return mosaic, boxes


def generate(out: Path) -> None:
    """Writes all shots and annotations.json below `out`."""
    images, annotations = [], []
    for shot in SHOTS:
        mosaic, boxes = render_shot(shot)
        folder = out / shot.body.make.split()[0].capitalize()
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{shot.stem}{shot.body.suffix}"
        write_container(
            folder / name,
            mosaic,
            make=shot.body.make,
            model=shot.body.model,
            exif_orientation=shot.exif_orientation,
            iso=shot.iso,
            shutter_s=shot.shutter_s,
            aperture_f=shot.aperture_f,
            focal_length_mm=shot.focal_length_mm,
            captured_at=f"2020:11:{shot.seed % 28 + 1:02} 21:{shot.seed % 60:02}:00",
        )
        images.append(
            {"id": shot.stem, "width": WIDTH, "height": HEIGHT, "file_name": name, "license": 1}
        )
        for box in boxes:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": shot.stem,
                    "category_id": CATEGORIES[box.category],
                    "bbox": [round(v) for v in (box.x, box.y, box.width, box.height)],
                    "area": round(box.width) * round(box.height),
                    "iscrowd": 0,
                }
            )
    document = {
        "info": {
            "description": "rawisp sample data: rendered night streets in RAW-NOD's shape",
            "version": "1.0",
            "year": 2026,
        },
        "licenses": [{"id": 1, "name": "MIT", "url": "https://opensource.org/license/mit"}],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": SUPERCATEGORIES[name]}
            for name, number in CATEGORIES.items()
        ],
    }
    (out / "annotations.json").write_text(json.dumps(document) + "\n")


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "night"
    generate(out)
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{len(SHOTS)} RAW files and their annotations in {out}, {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
