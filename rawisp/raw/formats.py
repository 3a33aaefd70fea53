"""Which files look like camera RAW: suffixes for scanning folders, first bytes for trusting one.

LibRaw guesses headerless files by their size alone (any file of 4,147,200 bytes becomes a
"Photron BC2-HD"), so a file is opened only when its first bytes are those of a known container.
"""

from __future__ import annotations

# Suffixes of the formats that LibRaw 0.22 reads (its camera list), lower case. ".tif" is not
# here although a few 2000s cameras used it: a folder's ordinary TIFFs are no RAW files. Such a
# file can still be named on the command line.
RAW_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        "3fr ari arw bay bmq cap cin cine cr2 cr3 crw cs1 dc2 dcr dcs dng drf dsc eip erf fff "
        "gpr ia iiq k25 kc2 kdc mdc mef mfw mos mrw nef nrw orf ori pef ptx pxn qtk raf raw rdc "
        "rw2 rwl rwz sr2 srf srw stx sti x3f"
    ).split()
)

FOVEON = b"FOVb"  # Sigma X3F

# (offset, bytes) of containers that LibRaw identifies by their header (LibRaw identify.cpp).
_MAGICS = (
    (0, b"II*\0"),  # TIFF, little-endian: ARW, NEF, DNG, CR2, PEF, SRW, 3FR, ERF, KDC, DCR, ...
    (0, b"MM\0*"),  # TIFF, big-endian
    (0, b"II+\0"),  # BigTIFF
    (0, b"MM\0+"),
    (0, b"IIRO"),  # Olympus ORF
    (0, b"IIRS"),
    (0, b"MMOR"),
    (0, b"IIU\0"),  # Panasonic RW2, Leica RWL
    (0, b"IIII"),  # Phase One IIQ
    (0, b"MMMM"),
    (0, b"II\x1a\0\0\0HEAPCCDR"),  # Canon CRW
    (4, b"ftypcrx "),  # Canon CR3
    (0, b"FUJIFILM"),  # RAF
    (0, FOVEON),
    (0, b"\0MRM"),  # Minolta MRW
    (0, b"\0MRI"),
    (0, b"DSC-Image"),  # Sony DSC-F828 family
    (0, b"PWAD"),  # Sinar
    (0, b"qktk"),  # Apple QuickTake
    (0, b"qktn"),
    (0, b"ARRI"),  # ARRIRAW
    (0, b"XPDS"),
    (0, b"NOKIARAW"),
    (0, b"ARECOYK"),  # Contax N
    (0, b"CI\x2c\0"),  # Vision Research CINE
    (0, b"SONY"),
    (0, b"Eastman Kodak"),
    (0, b"AVI LEICA"),
)

HEADER_BYTES = 64


def has_known_header(header: bytes) -> bool:
    """Whether `header` (the first HEADER_BYTES of a file) begins a known RAW container."""
    return any(header[at : at + len(magic)] == magic for at, magic in _MAGICS)


# What an ordinary file is, when somebody feeds one: (offset, bytes, name).
_OTHER_FILES = (
    (0, b"\xff\xd8\xff", "a JPEG"),
    (0, b"\x89PNG", "a PNG"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"%PDF", "a PDF"),
    (8, b"WEBP", "a WebP"),
    (4, b"ftypheic", "a HEIC"),
)


def describe_header(header: bytes) -> tuple[str, str]:
    """(what a file that is no RAW container is, what to do about it)."""
    for at, magic, name in _OTHER_FILES:
        if header[at : at + len(magic)] == magic:
            return f"is {name}, not a camera RAW file", "give the camera's original RAW file"
    return (
        "does not begin like any camera RAW format",
        "it is damaged, or a headerless dump, which is not read since its size and pattern would "
        "be a guess: load it with NumPy and call rawisp.pack_bayer",
    )
