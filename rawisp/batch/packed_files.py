"""Reading back what `rawisp pack` wrote, with the facts that its manifest or TIFF tag kept."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from rawisp import geometry, packing
from rawisp.batch.inputs import suffix_of
from rawisp.batch.manifest import Manifest
from rawisp.color import GENERIC_SOURCE, GENERIC_XYZ_TO_CAMERA, InputColor, output_matrix
from rawisp.errors import (
    ColorMatrixError,
    CorruptFileError,
    InputError,
    InvalidArrayError,
    OutputError,
    UnreadableFileError,
)
from rawisp.raw import open_regular_file
from rawisp.raw.tags import quiet_tifffile

PACKED_SUFFIXES = frozenset({".npy", ".tif", ".tiff"})


def is_packed(path: str) -> bool:
    """Whether `path` is read as a packed file; a .tif or .tiff only if rawisp wrote it."""
    suffix = suffix_of(path)
    if suffix == ".npy":
        return True
    return suffix in PACKED_SUFFIXES and _tiff_facts(path) is not None


# What an enhance run says of itself, and must not inherit from the run that packed.
_OF_THE_PACK_RUN = (
    "source",
    "output",
    "status",
    "reason",
    "seconds",
    "settings",
    "checkpoint",
    "version",
    "source_bytes",
    "source_modified_ns",
)


class PackedRecords:
    """Finds what the manifests above a packed .npy file say of it; reads each manifest once."""

    def __init__(self) -> None:
        self._manifests: dict[str, Manifest | None] = {}

    def lookup(self, path: str) -> dict[str, Any] | None:
        """The record, or None when no manifest above `path` mentions it."""
        manifest, output = self._find(path)
        try:
            return manifest.load(output) if manifest is not None else None
        except OutputError:  # its line is damaged
            return None

    def packed_from(self, path: str) -> str | None:
        """The file that `path` was packed from; None when no manifest mentions it."""
        manifest, output = self._find(path)
        return manifest.entries[output].source if manifest is not None else None

    def _find(self, path: str) -> tuple[Manifest | None, str]:
        """(manifest, output) for `path`; (None, "") when none mentions it."""
        folder, output = os.path.split(os.path.abspath(path))
        while True:
            if folder not in self._manifests:
                self._manifests[folder] = _manifest_or_none(folder)
            manifest = self._manifests[folder]
            if manifest is not None and output in manifest.entries:
                return manifest, output
            parent, name = os.path.split(folder)
            if parent == folder:
                return None, ""
            folder, output = parent, os.path.join(name, output)


def _manifest_or_none(folder: str) -> Manifest | None:
    try:
        return Manifest(folder)
    except OutputError:  # somebody else's, above our files
        return None


def read_packed(
    path: str,
    record: dict[str, Any] | None,
    color: InputColor,
    orient: str,
    *,
    color_is_given: bool = False,
    generic_matrix: bool = False,
) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """(planar float32 (3, h, w), facts with the affine so far), turned as `orient` asks.

    `record` is the manifest's entry for an .npy; a TIFF brings its own. Without one the array is
    taken as of `color` and sensor orientation, but only if the user has said so
    (`color_is_given`). An image that was packed to another colour is multiplied by the camera's
    matrix, which its record keeps (`generic_matrix`: by the stand-in where it keeps none).
    InputError when it cannot be used.
    """
    stored = _load(path)
    record = record or _tiff_facts(path)
    try:
        packed = packing.decode_packed(stored)
    except InvalidArrayError as error:
        raise CorruptFileError(path, f"is no packed image ({error})") from None
    if packed.ndim != 3 or packed.shape[2] != 3 or min(packed.shape) < 1:
        raise CorruptFileError(
            path, f"is no packed image: its shape is {stored.shape}, not (H, W, 3)"
        )
    if not np.isfinite(packed).all():
        raise CorruptFileError(path, "holds NaN or infinite values", "pack the RAW file again")
    if record is None and not color_is_given:
        raise UnreadableFileError(
            path,
            "no manifest says what colour it was packed to",
            f"keep manifest.jsonl beside it, or say --input-color {color} if that is what it is",
        )
    facts = _facts(path, record, packed.shape[1], packed.shape[0], color)
    planar: npt.NDArray[np.generic] = np.moveaxis(packed, -1, 0)
    if record is not None and record["settings"]["color"] != color:
        planar = _recolored(path, planar, facts, record["settings"]["color"], color, generic_matrix)
    planar, affine = _turned(planar, facts, orient)
    facts["affine"] = affine.rows()
    return np.ascontiguousarray(planar, dtype=np.float32), facts


def _load(path: str) -> npt.NDArray[np.generic]:
    try:
        with open_regular_file(path) as file:
            if suffix_of(path) == ".npy":
                array: npt.NDArray[np.generic] = np.load(file, allow_pickle=False)
                return array
            import tifffile

            with quiet_tifffile():
                return np.asarray(tifffile.imread(file))
    except InputError:
        raise
    except Exception as error:
        raise CorruptFileError(
            path,
            f"is damaged or no packed image ({type(error).__name__})",
            "pack the RAW file again",
        ) from None


def _tiff_facts(path: str) -> dict[str, Any] | None:
    if suffix_of(path) == ".npy":
        return None
    import tifffile

    try:
        with open_regular_file(path) as file, quiet_tifffile(), tifffile.TiffFile(file) as tiff:
            facts = json.loads(tiff.pages.first.tags.valueof(270) or "")
    except Exception:  # any other TIFF, or none
        return None
    return facts if isinstance(facts, dict) and "affine" in facts else None


def _facts(
    path: str, record: dict[str, Any] | None, width: int, height: int, color: InputColor
) -> dict[str, Any]:
    if record is None:
        visible = (2 * width, 2 * height)
        frames = geometry.sensor_frames(
            raw_size=visible,
            visible_origin=(0, 0),
            visible_size=visible,
            crop_origin=None,
            crop_size=None,
            flip=0,
        )
        frames["packed"] = geometry.Frame(
            "packed", width, height, geometry.Affine.scaling(2.0, 2.0)
        )
        return {
            "flip_libraw": 0,
            "packed_orient": "sensor",
            "frames": {
                f.name: {"width": f.width, "height": f.height, "to_visible": f.to_visible.rows()}
                for f in frames.values()
            },
            "visible_size": list(visible),
            "affine": geometry.Affine.scaling(0.5, 0.5).rows(),
            "warnings": [f"no manifest knows this file; taken as {color}, sensor orientation"],
        }
    if "affine" not in record:  # the run that packed it was killed before it wrote its own line
        raise CorruptFileError(
            path,
            "comes from a pack run that was interrupted before it recorded the facts",
            "run the same pack command again",
        )
    settings = record["settings"]
    if record["output_size"] != [width, height]:
        raise CorruptFileError(
            path,
            f"is {width}x{height}, its manifest says {record['output_size']}",
            "pack the RAW file again",
        )
    facts = {key: value for key, value in record.items() if key not in _OF_THE_PACK_RUN}
    return {**facts, "packed_orient": settings["orient"], "packed_from": record.get("source")}


def _recolored(
    path: str,
    planar: npt.NDArray[np.generic],
    facts: dict[str, Any],
    packed_to: InputColor,
    color: InputColor,
    generic_matrix: bool,
) -> npt.NDArray[np.generic]:
    """(3, h, w) of `packed_to` as `color`; packing clips nothing, so nothing is lost."""
    stated = facts.get("xyz_to_camera")
    if stated is None and not generic_matrix:
        raise ColorMatrixError(
            path,
            f"was packed with --color {packed_to}, the checkpoint needs {color}, and no colour "
            "matrix is known for its camera",
            "take --matrix generic, a stand-in that is roughly right, or a checkpoint that was "
            f"trained on {packed_to}",
        )
    if stated is None:
        facts["xyz_to_camera"] = GENERIC_XYZ_TO_CAMERA.tolist()
        facts["matrix_source"] = GENERIC_SOURCE
    xyz_to_camera = np.array(facts["xyz_to_camera"], dtype=np.float64)
    there = output_matrix(color, xyz_to_camera)
    matrix = there @ np.linalg.inv(output_matrix(packed_to, xyz_to_camera))
    recolored = np.einsum("ij,jhw->ihw", matrix, planar.astype(np.float64))
    return np.asarray(recolored, dtype=np.float32)


def _turned(
    planar: npt.NDArray[np.generic], facts: dict[str, Any], orient: str
) -> tuple[npt.NDArray[np.generic], geometry.Affine]:
    affine = geometry.Affine.from_rows(facts["affine"])
    was = facts.pop("packed_orient")
    flip = int(facts["flip_libraw"])
    if was == orient or flip == 0:
        return planar, affine
    if was == "upright":
        flip = geometry.inverse_flip(flip)
    turn = geometry.flip_affine(flip, planar.shape[2], planar.shape[1])
    return geometry.flip_array(planar, flip), affine.then(turn)
