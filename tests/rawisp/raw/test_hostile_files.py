"""Files that are no RAW, or no longer: one sentence each, never a traceback, never a long wait."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rawisp.errors import (
    CorruptFileError,
    InputError,
    TooLargeError,
    UnreadableFileError,
    UnsupportedRawError,
    display_path,
)
from rawisp.raw import open_raw
from rawisp.raw.container import CAMERA_BODIES, dng_tags, write_container

WriteRaw = Callable[..., Path]
Array = npt.NDArray[Any]


def refused(path: Any, kind: type[InputError] = InputError, **options: Any) -> str:
    """The message of the refusal, checked for what every refusal owes a person."""
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        open_raw(path, **options)
    assert time.monotonic() - started < 2.0
    return one_sentence(caught.value)


def one_sentence(error: InputError) -> str:
    message = str(error)
    assert len(message.splitlines()) == 1, message
    assert message.startswith(f"{display_path(error.path)}: ")
    for word in ("Traceback", "rawpy._rawpy", "<class", "object at"):
        assert word not in message.replace(display_path(error.path), ""), message
    assert error.problem
    assert len(message) < 300 + len(os.fsencode(error.path))
    return message


# --- what is no file to read ----------------------------------------------------------------------


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nope.ARW", UnreadableFileError)


def test_a_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "night.NEF").mkdir()
    assert "is a folder" in refused(tmp_path / "night.NEF", UnreadableFileError)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ARW")
    assert "no regular file" in refused(tmp_path / "pipe.ARW", UnreadableFileError)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # socket names are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.ARW")
        assert "no regular file" in refused("s.ARW", UnreadableFileError)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/urandom"])
def test_devices_are_refused(device: str) -> None:
    assert "no regular file" in refused(device, UnreadableFileError)


def test_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ARW").symlink_to("b.ARW")
    (tmp_path / "b.ARW").symlink_to("a.ARW")
    assert "cannot be read" in refused(tmp_path / "a.ARW", UnreadableFileError)


def test_a_link_to_a_file_is_followed(write_raw: WriteRaw, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(write_raw("a.ARW"))
    assert open_raw(tmp_path / "link").pattern == "RGGB"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(write_raw: WriteRaw) -> None:
    path = write_raw()
    path.chmod(0)
    assert "cannot be read" in refused(path, UnreadableFileError)


def test_impossible_names_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / ("x" * 300), UnreadableFileError)
    with pytest.raises(UnreadableFileError):
        open_raw("a\0b.ARW")


# --- what is no RAW file --------------------------------------------------------------------------

OTHERS = {
    "empty": (b"", "is empty"),
    "one byte": (b"I", "does not begin"),
    "text": (b"dear diary\n" * 99, "does not begin"),
    "JPEG": (b"\xff\xd8\xff\xe1" + bytes(999), "is a JPEG"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(999), "is a PNG"),
    "NPY": (b"\x93NUMPY\x01\0" + bytes(999), "is a NumPy array"),
    "GIF": (b"GIF89a" + bytes(999), "is a GIF"),
    "BMP": (b"BM" + bytes(999), "is a BMP"),
    "zip": (b"PK\x03\x04" + bytes(999), "is a zip archive"),
    "PDF": (b"%PDF-1.7" + bytes(999), "is a PDF"),
    "WebP": (b"RIFF\0\0\0\0WEBP" + bytes(999), "is a WebP"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(999), "is a HEIC"),
    "zeros": (bytes(4096), "does not begin"),
    "TIFF header only": (b"II*\0", ""),
    "TIFF header and zeros": (b"II*\0" + bytes(4096), ""),
    "TIFF directory that points to itself": (
        b"II*\0\x08\0\0\0\x01\0\x4a\x01\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0" + bytes(99),
        "",
    ),
    "big-endian BigTIFF": (b"MM\0+\0\x08\0\0" + bytes(999), ""),
    "CR3 header only": (b"\0\0\0\x18ftypcrx " + bytes(999), ""),
    "RAF header only": (b"FUJIFILMCCD-RAW 0201" + b"\xff" * 999, ""),
    "CRW header only": (b"II\x1a\0\0\0HEAPCCDR" + bytes(999), ""),
}


@pytest.mark.parametrize(("content", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_what_is_no_raw_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "night.ARW"
    path.write_bytes(content)
    assert words in refused(path, CorruptFileError)


def test_random_bytes_of_a_headerless_cameras_size_are_refused(tmp_path: Path) -> None:
    """LibRaw takes any 4,147,200 bytes for a Photron BC2-HD, with colours and a matrix."""
    path = tmp_path / "night.raw"
    path.write_bytes(np.random.default_rng(0).bytes(4_147_200))
    assert "headerless" in refused(path, CorruptFileError)


def test_an_ordinary_tiff_is_refused(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "picture.tif"
    tifffile.imwrite(path, np.zeros((60, 80, 3), np.uint8), photometric="rgb")
    refused(path, CorruptFileError)


# --- damage ---------------------------------------------------------------------------------------


def container(folder: Path, kind: str) -> bytes:
    """A small sound file of one of three kinds."""
    rng = np.random.default_rng(1)
    mosaic = rng.integers(600, 4000, (30, 40)).astype(np.uint16)
    path = folder / f"seed.{kind}"
    facts: dict[str, Any] = {"iso": 800, "shutter_s": 0.1, "captured_at": "2020:11:28 21:04:55"}
    if kind == "dng":
        matrix = CAMERA_BODIES["DSC-RX100M7"].xyz_to_camera
        facts["extra_tags"] = dng_tags(
            color_matrices=[(17, np.eye(3)), (21, matrix)],
            black=(64, 65, 66, 67),
            white=4095,
            active_area=(1, 2, 29, 39),
            default_crop=(1, 1, 30, 20),
            analog_balance=(1, 1, 1),
        )
    model = {"arw": "DSC-RX100M7", "nef": "NIKON D750", "dng": "DSC-RX100M7"}[kind]
    write_container(path, mosaic, make=CAMERA_BODIES[model].make, model=model, **facts)
    return path.read_bytes()


def survived(path: Path, content: bytes) -> bool:
    """Whether it decodes; anything but an image or one sentence fails the test."""
    path.write_bytes(content)
    started = time.monotonic()
    try:
        frame = open_raw(path)
        image = frame.pack("camera")
    except InputError as error:
        one_sentence(error)
        return False
    finally:
        assert time.monotonic() - started < 5.0
    assert np.isfinite(image).all()
    assert np.isfinite(frame.black).all()
    frame.facts()
    frame.sample_statistics()
    return True


@pytest.mark.parametrize("kind", ["arw", "nef", "dng"])
def test_every_truncation_is_refused(tmp_path: Path, kind: str) -> None:
    content = container(tmp_path, kind)
    path = tmp_path / f"cut.{kind}"
    assert survived(path, content)
    # One missing byte is the one cut that LibRaw itself overlooks.
    lengths = [*range(0, 700, 9), *range(700, len(content) - 1, 61), len(content) - 2]
    for length in lengths:
        assert not survived(path, content[:length]), f"{length} of {len(content)} bytes"


def mutations(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """`content` with header bytes replaced, bits flipped, or 32-bit fields made extreme."""
    rng = np.random.default_rng(seed)
    extremes = [0, 1, 2, 255, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1]
    header = min(len(content), 900)
    for _ in range(count):
        mutated = bytearray(content)
        for _ in range(int(rng.integers(1, 6))):
            way = rng.integers(3)
            if way == 0:
                mutated[rng.integers(header)] = rng.integers(256)
            elif way == 1:
                mutated[rng.integers(len(content))] ^= 1 << rng.integers(8)
            else:
                at = 2 * int(rng.integers(2, header // 2 - 2))
                struct.pack_into("<I", mutated, at, extremes[rng.integers(len(extremes))])
        yield bytes(mutated)


@pytest.mark.parametrize("kind", ["arw", "nef", "dng"])
def test_mutated_files_decode_or_are_refused(tmp_path: Path, kind: str) -> None:
    content = container(tmp_path, kind)
    path = tmp_path / f"mutated.{kind}"
    decoded = [survived(path, mutated) for mutated in mutations(content, 200, seed=7)]
    assert 0 < sum(decoded) < len(decoded), "the mutations must reach both outcomes"


@pytest.mark.parametrize(
    "model",
    ["X\nb.ARW: all is well", "X\x1b[2J", "X\rok", "X\x07", "X" * 5000],
    ids=["newline", "escape", "carriage return", "bell", "five thousand letters"],
)
@pytest.mark.parametrize("size", [20, 30], ids=["refused by LibRaw", "without a matrix"])
def test_a_cameras_name_cannot_forge_a_message(tmp_path: Path, model: str, size: int) -> None:
    """Make and model come from the file and go into messages."""
    path = tmp_path / "a.ARW"
    mosaic = np.arange(size * size, dtype=np.uint16).reshape(size, size)
    write_container(path, mosaic, make="SONY", model=model)
    with pytest.raises(InputError, match="SONY X") as caught:
        open_raw(path).pack("xyz")
    assert one_sentence(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("truncated_zv-e10.arw", CorruptFileError),
        ("truncated_nikon.nef", CorruptFileError),
        ("truncated_leica-m10.dng", CorruptFileError),
        ("DSC8695.dng", UnsupportedRawError),
    ],
)
def test_real_files_that_cannot_be_packed(real_raw: Path, name: str, kind: Any) -> None:
    message = refused(real_raw / name, kind)
    if name == "DSC8695.dng":
        assert "linear" in message


# --- size -----------------------------------------------------------------------------------------


def declare(path: Path, width: int, height: int, length: int | None = None) -> Path:
    """A sparse DNG of one header and width x height samples that nobody wrote."""
    fields = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1),
        (262, 3, 1, 32803), (273, 4, 1, 1024), (277, 3, 1, 1), (278, 4, 1, height),
        (279, 4, 1, min(width * height * 2, 2**32 - 1)),
        (33421, 3, 2, 2 | 2 << 16), (33422, 1, 4, 0x02010100), (50706, 1, 4, 0x00000401),
    ]  # fmt: skip
    data = b"II*\0" + struct.pack("<IH", 8, len(fields))
    data += b"".join(struct.pack("<HHII", *entry) for entry in fields)
    with open(path, "wb") as file:
        file.write(data)
        file.truncate(1024 + width * height * 2 if length is None else length)
    return path


def test_the_megapixel_limit_is_inclusive(write_raw: WriteRaw) -> None:
    path = write_raw(mosaic=np.arange(2400, dtype=np.uint16).reshape(40, 60))
    assert open_raw(path, max_megapixels=0.0024).visible_size == (60, 40)
    message = refused(path, TooLargeError, max_megapixels=0.0023)
    assert "60x40" in message
    assert "--max-megapixels" in message


@pytest.mark.parametrize("size", [(0, 0), (0, 100), (1, 1), (21, 21), (65535, 65535), (2**31, 9)])
def test_absurd_dimensions_in_a_small_file_are_refused(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    refused(declare(tmp_path / "a.dng", *size, length=9000))


def test_a_sparse_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """1.8 GB of holes on 4 KiB of disk: the header is enough to refuse it.

    Reading it whole first took 12 s and 3.5 GB; half a gigabyte is plenty for the header.
    """
    path = declare(tmp_path / "bomb.dng", 30000, 30000)
    code = """if True:
        import pathlib, re, resource, sys
        import rawpy
        from rawisp.raw import open_raw
        from rawisp.errors import InputError
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        try:
            open_raw(sys.argv[1])
        except InputError as error:
            print(error)
        # Not ru_maxrss, which begins with the parent's at the fork.
        status = pathlib.Path("/proc/self/status").read_text()
        print(int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) // 1024)
        """
    done = subprocess.run(
        [sys.executable, "-c", code, os.fspath(path)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    message, peak_mib = done.stdout.splitlines()
    assert "declares 900 megapixels (30000x30000)" in message
    assert int(peak_mib) < 512
