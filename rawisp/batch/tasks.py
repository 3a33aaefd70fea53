"""What workers do to one file: the steps of `info`, `pack` and `enhance`, and their settings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rawisp import geometry, packing
from rawisp.batch import packed_files, writer
from rawisp.batch.worker import Payload, Step
from rawisp.checkpoint.archive import Archive
from rawisp.color import COLORS, InputColor
from rawisp.errors import CorruptFileError, InputError, UsageError
from rawisp.highlights import (
    HIGHLIGHTS,
    Highlights,
    balance_warning,
    neutral_highlights,
    scene_white,
)
from rawisp.raw import DEFAULT_MAX_MEGAPIXELS, Overrides, RawFrame, open_raw
from rawisp.resize import shrink

ORIENTATIONS = ("sensor", "upright")


@dataclass(frozen=True)
class ReadSettings:
    """How RAW files are read: the pixel limit, and facts to use instead of the file's.

    strict: refuse files that look damaged, instead of calling them suspect.
    """

    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
    overrides: Overrides = field(default_factory=Overrides)
    strict: bool = False

    def open(self, path: str) -> RawFrame:
        """The file, read so."""
        frame = open_raw(path, max_megapixels=self.max_megapixels, overrides=self.overrides)
        if self.strict and frame.suspicions:
            raise CorruptFileError(
                path,
                "; ".join(frame.suspicions),
                "copy it again from the card, or leave out --strict",
            )
        return frame

    def record(self) -> dict[str, Any]:
        """What changes the result, for the manifest."""
        o = self.overrides
        matrix = "generic" if o.generic_matrix else None
        if o.matrix is not None:
            matrix = np.asarray(o.matrix).tolist()
        return {
            "matrix": matrix,
            "black": None if o.black is None else list(o.black),
            "white": None if o.white is None else list(o.white),
        }


@dataclass(frozen=True)
class PackSettings:
    """The options of `rawisp pack`; see its help. UsageError for a value that is none.

    fit: scale down, antialiased, to within these limits of the (long, short) side; None for full
    size. highlights: "neutral" raises clipped colours to the scene's white, as `train` and `eval`
    have it in what they cache; `rawisp pack` keeps what the sensor wrote.
    """

    format: Literal["npy", "tiff"] = "npy"
    dtype: Literal["float32", "float16", "uint16"] = "float32"
    color: InputColor = "xyz"
    orient: Literal["sensor", "upright"] = "sensor"
    fit: geometry.Fit | None = None
    read: ReadSettings = field(default_factory=ReadSettings)
    highlights: Highlights = "as-is"

    def __post_init__(self) -> None:
        _check_choice("highlights", self.highlights, HIGHLIGHTS)
        _check_choice("format", self.format, tuple(writer.PACKED_SUFFIX))
        _check_choice("dtype", self.dtype, packing.DTYPES)
        _check_choice("color", self.color, COLORS)
        _check_choice("orient", self.orient, ORIENTATIONS)
        if self.fit is not None:
            geometry.check_fit(self.fit)

    def record(self) -> dict[str, Any]:
        """What changes the result, for the manifest."""
        values: dict[str, Any] = {"format": self.format, "dtype": self.dtype, "color": self.color}
        if self.fit is not None:  # left out otherwise: full-size outputs of older versions stay
            values["fit"] = list(self.fit)
        if self.highlights != "as-is":  # likewise
            values["highlights"] = self.highlights
        return {"verb": "pack", **values, "orient": self.orient, **self.read.record()}


@dataclass(frozen=True)
class EnhanceSettings:
    """The options of `rawisp enhance`; see its help. UsageError for a value that is none.

    fit: limits of the (long, short) side, None for full size, "checkpoint" as it was trained. safe,
    expect_sha256: as in `load_isp`. highlights: "neutral" raises clipped colours to the scene's
    white before the ISP sees them (`rawisp.highlights`), "as-is" does not.
    """

    checkpoint: str = "night"
    device: str = "auto"
    format: Literal["png", "jpg", "tiff"] = "png"
    fit: geometry.Fit | Literal["checkpoint"] | None = "checkpoint"
    orient: Literal["upright", "sensor"] = "upright"
    input_color: InputColor | None = None
    safe: bool = False
    expect_sha256: str | None = None
    annotation_frame: str = "auto"
    read: ReadSettings = field(default_factory=ReadSettings)
    highlights: Highlights = "neutral"

    def __post_init__(self) -> None:
        _check_choice("format", self.format, tuple(writer.IMAGE_SUFFIX))
        _check_choice("highlights", self.highlights, HIGHLIGHTS)
        _check_choice("orient", self.orient, ORIENTATIONS)
        _check_choice("input_color", self.input_color, (None, *COLORS))
        if self.fit not in (None, "checkpoint"):
            geometry.check_fit(self.fit)


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        listed = ", ".join(str(choice) for choice in choices if choice is not None)
        raise UsageError(f"{name} {value!r} is none of {listed}")


def warm_up_kernels() -> None:
    """Compiles the kernels, or loads them; one process at a time when they are not cached yet.

    Concurrent writers of Numba's cache have crashed (numba issue 4807).
    """
    from rawisp.batch.lock import waiting_lock
    from rawisp.kernels import jit

    def run() -> None:
        from rawisp.kernels import damage

        mosaic = np.zeros((8, 8), np.uint16)
        damage.longest_flat_runs(mosaic, 4, np.zeros(8, np.int64), np.zeros(8, np.int64))
        damage.repeated_rows(mosaic, np.zeros(8, np.bool_))
        for layout in ("chw", "hwc"):
            packed = packing.pack_bayer(
                mosaic, pattern="RGGB", black=0, white=1, matrix=None, layout=layout, threads=1
            )
            white = scene_white(None, np.eye(3))
            neutral_highlights(packed, "xyz", np.eye(3), white, planar=layout == "chw")
            if layout == "chw":
                shrink(packed, 3, 3)

    if jit.CACHE_FOLDER is None:
        run()
        return
    done = jit.CACHE_FOLDER / "warm"
    if done.exists():
        run()
        return
    with waiting_lock(str(jit.CACHE_FOLDER / "lock")):
        run()
        done.touch()


@dataclass(frozen=True)
class InfoToolbox:
    """`info`: facts and sample statistics of one file."""

    read: ReadSettings

    def open(self) -> dict[str, Step]:
        warm_up_kernels()

        def info(payload: Payload) -> Payload:
            frame = self.read.open(payload["source"])
            return {**frame.facts(), "samples": frame.sample_statistics()}

        return {"info": info}


@dataclass(frozen=True)
class PackToolbox:
    """`pack`: RAW to one packed file."""

    settings: PackSettings

    def open(self) -> dict[str, Step]:
        warm_up_kernels()

        def pack(payload: Payload) -> Payload:
            frame = self.settings.read.open(payload["source"])
            packed, mended = self._packed(frame)
            record = {**self._record(frame), **mended}
            stored = packing.encode_packed(packed, self.settings.dtype)
            if self.settings.format == "tiff":
                writer.write_packed_tiff(payload["output_path"], stored, record)
            else:
                writer.write_npy(payload["output_path"], stored)
            return record

        return {"pack": pack}

    def _packed(self, frame: RawFrame) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """(H, W, 3) of the size that the settings ask for; what was done to highlights, if so."""
        color, orient, fit = self.settings.color, self.settings.orient, self.settings.fit
        layout: packing.Layout = "hwc" if fit is None else "chw"
        packed = frame.pack(color, orient=orient, layout=layout, threads=1)
        mended = {}
        if self.settings.highlights == "neutral":
            # Before scaling, which mixes clipped pixels with others.
            done = frame.mend_highlights(packed, color, planar=layout == "chw")
            mended = {"highlights": done}
        if fit is None:
            return packed, mended
        width, height = geometry.fit_size(packed.shape[2], packed.shape[1], fit)
        return np.ascontiguousarray(np.moveaxis(shrink(packed, height, width), 0, -1)), mended

    def _record(self, frame: RawFrame) -> dict[str, Any]:
        flip = frame.flip if self.settings.orient == "upright" else 0
        affine, size = geometry.packed_affine(frame.visible_size, flip=flip, fit=self.settings.fit)
        record = {**frame.facts(), **_placement(frame.visible_size, affine, size)}
        record["settings"] = self.settings.record()
        if self.settings.dtype == "uint16":
            record["sample_scale"] = packing.UINT16_SCALE
            record["sample_offset"] = packing.UINT16_OFFSET
        return record


@dataclass(frozen=True)
class EnhanceToolbox:
    """`enhance`, the processor's part: `decode` before the ISP, `write` after it."""

    settings: EnhanceSettings
    color: InputColor
    fit: geometry.Fit | None

    def open(self) -> dict[str, Step]:
        warm_up_kernels()
        return {"decode": self._decode, "write": self._write}

    def _decode(self, payload: Payload) -> Payload:
        """RAW or packed file to a planar image of final size and orientation in the spool."""
        if packed_files.is_packed(payload["source"]):
            overrides = self.settings.read.overrides
            if replace(overrides, generic_matrix=False).any():
                raise InputError(
                    payload["source"],
                    "is packed already; --matrix, --black and --white are for RAW files",
                    "pack the RAW file again with them",
                )
            planar, record = packed_files.read_packed(
                payload["source"],
                payload.get("packed_record"),
                self.color,
                self.settings.orient,
                color_is_given=self.settings.input_color is not None,
                generic_matrix=overrides.generic_matrix,
            )
        else:
            planar, record = self._from_raw(payload)
        if self.settings.highlights == "neutral":
            _mend(planar, self.color, record)
        before = (planar.shape[2], planar.shape[1])
        width, height = geometry.fit_size(*before, self.fit)
        affine = geometry.Affine.from_rows(record["affine"])
        affine = affine.then(geometry.resize_affine(before, (width, height)))
        record |= _placement(tuple(record["visible_size"]), affine, (width, height))
        for entry in payload["annotations"]:
            annotation_frame_of(payload["source"], entry, record)
        writer.write_npy(payload["spool_linear"], shrink(planar, height, width))
        return {**payload, "record": record}

    def _from_raw(self, payload: Payload) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        frame = self.settings.read.open(payload["source"])
        upright = self.settings.orient == "upright"
        planar = frame.pack(self.color, orient=self.settings.orient, layout="chw", threads=1)
        affine, size = geometry.packed_affine(frame.visible_size, flip=frame.flip if upright else 0)
        return planar, {**frame.facts(), **_placement(frame.visible_size, affine, size)}

    def _write(self, payload: Payload) -> Payload:
        image = np.load(payload["spool_image"])
        writer.write_image(payload["output_path"], image, self.settings.format)
        os.unlink(payload["spool_image"])
        return dict(payload["record"])


@dataclass(frozen=True)
class ModelToolbox:
    """`enhance`, the ISP's part: the one process that imports torch."""

    checkpoint: Archive
    device: str
    input_color: InputColor | None

    def open(self) -> dict[str, Step]:
        from rawisp.checkpoint import load_isp

        # The hash that was checked and recorded is the hash that is loaded.
        isp = load_isp(
            self.checkpoint.path,
            device=self.device,
            input_color=self.input_color,
            expect_sha256=self.checkpoint.sha256,
        )

        def render(payload: Payload) -> Payload:
            linear = np.load(payload["spool_linear"])
            image, warnings = isp.render_and_judge(linear)
            writer.write_npy(payload["spool_image"], image)
            os.unlink(payload["spool_linear"])
            record = {**payload["record"], "device": str(isp.device)}
            if warnings:
                record["warnings"] = [*record.get("warnings", ()), *warnings]
            return {**payload, "record": record}

        return {"render": render}


def _mend(planar: npt.NDArray[np.float32], color: InputColor, record: dict[str, Any]) -> None:
    """Highlights made neutral in place, and recorded, by the facts of the file; an array without a
    manifest has none, and stays as it is."""
    stored = record.get("xyz_to_camera")
    matrix = None if stored is None else np.asarray(stored, dtype=np.float64)
    white = scene_white(record.get("white_balance"), matrix)
    done = neutral_highlights(planar, color, matrix, white, planar=True)
    warning = balance_warning(planar, color, matrix, white, done.get("clipped_share", 0.0))
    record["highlights"] = done
    if warning is not None:
        record["warnings"] = [*record.get("warnings", ()), warning]


def annotation_frame_of(
    source: str, entry: dict[str, Any], record: dict[str, Any]
) -> geometry.Frame:
    """The frame that annotations were drawn on; FrameMismatchError when there is none or several.

    entry: "size" (width, height), None where the format says none, and "frame", the name that the
    user gave, or "auto".
    """
    from rawisp.data.frames import (
        frame_of_size,
    )  # readers of annotations, which pack has no use for

    frames = {
        name: geometry.Frame(
            name, f["width"], f["height"], geometry.Affine.from_rows(f["to_visible"])
        )
        for name, f in record["frames"].items()
    }
    size = (entry["size"][0], entry["size"][1]) if entry["size"] else None
    return frame_of_size(source, size, frames, entry["frame"])


def _placement(
    visible: tuple[int, ...], affine: geometry.Affine, size: tuple[int, int]
) -> dict[str, Any]:
    return {
        "visible_size": list(visible),
        "output_size": list(size),
        "affine": affine.rows(),
    }
