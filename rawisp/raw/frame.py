"""What a camera wrote: the visible mosaic and the facts that go with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rawisp import color as colors
from rawisp import geometry, packing
from rawisp.errors import ColorMatrixError, InvalidArrayError
from rawisp.highlights import HIGHLIGHTS, Highlights, neutral_highlights, scene_white
from rawisp.raw.names import camera_name


@dataclass(frozen=True)
class Exposure:
    """How the picture was taken; None or "" where the file does not say."""

    iso: float | None = None
    shutter_s: float | None = None
    aperture_f: float | None = None
    focal_length_mm: float | None = None
    make: str = ""
    model: str = ""
    lens: str = ""
    captured_at: str = ""  # camera's local time, ISO 8601


@dataclass(frozen=True)
class RawFrame:
    """One RAW file after decoding.

    mosaic: uint16 (H, W), the visible area. pattern: its top-left 2x2, such as "RGGB". black,
    white: (4,) float64 by LibRaw's colour index R, G1, B, G2 (G1 is the green in red's row).
    matrix: XYZ to camera and its source, or None. flip: LibRaw's code (0 none, 3, 5, 6, ...).
    white_balance, daylight_balance: multipliers by colour index, or None. frames: by name, see
    rawisp.geometry. black_rows, black_columns: (H,) and (W,), what is added to `black` in each row
    and column, or None (a DNG's BlackLevelDeltaV and BlackLevelDeltaH). suspicions: sentences on
    parts of the picture that no sensor writes; the file is probably damaged.
    """

    path: str
    mosaic: npt.NDArray[np.uint16]
    pattern: str
    black: npt.NDArray[np.float64]
    white: npt.NDArray[np.float64]
    levels_source: str
    matrix: colors.CameraMatrix | None
    white_balance: tuple[float, ...] | None
    daylight_balance: tuple[float, ...] | None
    flip: int
    frames: dict[str, geometry.Frame]
    exposure: Exposure = field(default_factory=Exposure)
    warnings: tuple[str, ...] = ()
    suspicions: tuple[str, ...] = ()
    black_rows: npt.NDArray[np.float64] | None = None
    black_columns: npt.NDArray[np.float64] | None = None

    def __repr__(self) -> str:
        width, height = self.visible_size
        return f"<RawFrame {self.path!r}: {self.camera}, {width}x{height} {self.pattern}>"

    def output_matrix(self, color: colors.InputColor) -> colors.Matrix:
        """(3, 3) from camera RGB to `color`; ColorMatrixError where no matrix is known."""
        if color not in colors.COLORS:
            raise InvalidArrayError(f"color {color!r} is none of {', '.join(colors.COLORS)}")
        if color != "camera" and self.matrix is None:
            raise ColorMatrixError(
                self.path,
                f"no colour matrix is known for this camera ({self.camera}), so {color} cannot be "
                "made",
                "give the XYZ-to-camera matrix with --matrix, or take --matrix generic, a stand-in "
                "that is roughly right",
            )
        return colors.output_matrix(color, self.matrix.xyz_to_camera if self.matrix else None)

    def pack(
        self,
        color: colors.InputColor = "xyz",
        *,
        orient: str = "sensor",
        layout: packing.Layout = "hwc",
        highlights: Highlights = "as-is",
        out: packing.Packed | None = None,
        threads: int | None = None,
    ) -> packing.Packed:
        """The half-resolution linear image, float32 (H // 2, W // 2, 3), or (3, ...) for "chw".

        color: "xyz" (CIE XYZ of the scene, M^-1 c), "camera", or "xyz-uninverted" (M c). 1.0 is the
        sensor's white level in camera RGB; negative noise is kept, nothing is clipped. orient:
        "sensor" as the mosaic lies, "upright" as the orientation flag says. highlights: "as-is", or
        "neutral", which raises clipped colours to the scene's white as `enhance` and `train` do
        (`rawisp.highlights`). `out` is used for the sensor orientation only. Raises
        ColorMatrixError, InvalidArrayError.
        """
        if orient not in ("sensor", "upright"):
            raise InvalidArrayError(f"orient {orient!r} is neither 'sensor' nor 'upright'")
        if highlights not in HIGHLIGHTS:
            raise InvalidArrayError(f"highlights {highlights!r} is none of {', '.join(HIGHLIGHTS)}")
        packed = packing.pack_bayer(
            self.mosaic,
            pattern=self.pattern,
            black=self.black,
            white=self.white,
            matrix=self.output_matrix(color),
            layout=layout,
            out=out,
            threads=threads,
        )
        if self.black_rows is not None or self.black_columns is not None:
            packing.subtract_black_deltas(
                packed,
                self.black_rows,
                self.black_columns,
                pattern=self.pattern,
                black=self.black,
                white=self.white,
                matrix=self.output_matrix(color),
                layout=layout,
            )
        if highlights == "neutral":
            self.mend_highlights(packed, color, planar=layout == "chw")
        if orient == "sensor" or self.flip == 0:
            return packed
        planar = packed if layout == "chw" else np.moveaxis(packed, -1, 0)
        turned = geometry.flip_array(planar, self.flip)
        turned = turned if layout == "chw" else np.moveaxis(turned, 0, -1)
        return np.ascontiguousarray(turned, dtype=np.float32)

    def mend_highlights(
        self, packed: packing.Packed, color: colors.InputColor, *, planar: bool
    ) -> dict[str, Any]:
        """`rawisp.highlights.neutral_highlights` of what `pack` returned, in place."""
        matrix = self.matrix.xyz_to_camera if self.matrix else None
        white = scene_white(self.white_balance, matrix)
        return neutral_highlights(packed, color, matrix, white, planar=planar)

    @property
    def camera(self) -> str:
        """Make and model as one phrase."""
        return camera_name(self.exposure.make, self.exposure.model)

    @property
    def visible_size(self) -> tuple[int, int]:
        """(width, height) of the mosaic."""
        return self.mosaic.shape[1], self.mosaic.shape[0]

    def facts(self) -> dict[str, Any]:
        """Everything but the samples, as plain JSON values: what `info` and manifests show."""
        e, m = self.exposure, self.matrix
        return {
            "camera": {"make": e.make, "model": e.model, "lens": e.lens},
            "exposure": {
                "iso": e.iso,
                "shutter_s": e.shutter_s,
                "aperture_f": e.aperture_f,
                "focal_length_mm": e.focal_length_mm,
                "captured_at": e.captured_at,
            },
            "pattern": self.pattern,
            "black": self.black.tolist(),
            "white": self.white.tolist(),
            "black_varies": {
                name: [float(deltas.min()), float(deltas.max())]
                for name, deltas in (("rows", self.black_rows), ("columns", self.black_columns))
                if deltas is not None
            },
            "levels_source": self.levels_source,
            "xyz_to_camera": m.xyz_to_camera.tolist() if m else None,
            "camera_to_xyz": m.camera_to_xyz.tolist() if m else None,
            "matrix_source": m.source if m else "none",
            "white_balance": list(self.white_balance) if self.white_balance else None,
            "daylight_balance": list(self.daylight_balance) if self.daylight_balance else None,
            "flip_libraw": self.flip,
            "exif_orientation": geometry.EXIF_ORIENTATION_FROM_FLIP.get(self.flip, 1),
            "frames": {
                f.name: {
                    "width": f.width,
                    "height": f.height,
                    "to_visible": f.to_visible.rows(),
                }
                for f in self.frames.values()
            },
            "warnings": list(self.warnings),
            "suspicions": list(self.suspicions),
        }

    def sample_statistics(self) -> dict[str, dict[str, float]]:
        """Per colour: min, median, max of the samples and the share at or above the white level."""
        result = {}
        for name, offset in zip(("R", "G1", "B", "G2"), self._cell_offsets(), strict=True):
            plane = self.mosaic[offset[0] :: 2, offset[1] :: 2]
            counts = np.bincount(plane.ravel(), minlength=1)
            present = np.flatnonzero(counts)
            cumulative = np.cumsum(counts)
            index = ("R", "G1", "B", "G2").index(name)
            clipped = counts[int(np.ceil(self.white[index])) :].sum()
            result[name] = {
                "min": int(present[0]),
                "median": int(np.searchsorted(cumulative, (plane.size + 1) // 2)),
                "max": int(present[-1]),
                "clipped_share": float(clipped / plane.size),
            }
        return result

    def _cell_offsets(self) -> list[tuple[int, int]]:
        """(row, column) in the 2x2 cell of R, G1, B, G2."""
        position = {index: divmod(p, 2) for p, index in enumerate(packing.PHASES[self.pattern])}
        return [position[index] for index in range(4)]
