"""Every number that decides what a synthetic night looks like, with its source or reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from rawisp.errors import UsageError
from rawisp.packing import PHASES

Range = tuple[float, float]

# ISO of the darkest and the brightest nights that are imitated: what both cameras offer.
LOWEST_ISO, HIGHEST_ISO = 100, 12800


@dataclass(frozen=True)
class SensorNoise:
    """The noise of one sensor, in electrons as far as it arises before the amplifier.

    full_well_electrons: what fills a pixel's 14-bit range at ISO 100; at other ISO it is divided by
    ISO / 100. read_electrons: standard deviation of a pixel read without light. converter_codes:
    that of the analogue-digital converter, in 14-bit codes. row_electrons: standard deviation of
    the offset that a row's pixels share.
    """

    full_well_electrons: float
    read_electrons: float
    converter_codes: float
    row_electrons: float

    def electrons_at_white(self, iso: float) -> float:
        """Photo-electrons of a pixel that just reaches the white level."""
        return self.full_well_electrons * 100.0 / iso


# Full well: B. Claff measured 0.86 electrons per 14-bit code at ISO 400 for the D800
# (photonstophotos.net, "D800 Read Noise"), so 54,500 at ISO 100 on 4.88 um pixels, or 2290 per
# square micrometre; times the pixel areas of the D750 (5.97 um) and the RX100 VII (2.41 um), whose
# sensors are of the same make and decade.
# Read noise: the model of two sources, before and after the amplifier, is Claff's ("DxOMark Read
# Noise Analysis"). His D800 has 4.2 electrons at high ISO, his A7R II 1.0 and a converter noise of
# 1.2 codes ("Sony A7RM2 DR-Pix Read Noise"). The two cameras here lie between those two: assumed,
# not measured.
# Rows: an offset is seen from about a tenth of the pixel noise on, and high ISO shows banding, so
# 15 % of the read noise: assumed.
SENSOR_NOISE: Mapping[str, SensorNoise] = {
    "DSC-RX100M7": SensorNoise(13_300.0, 1.6, 1.2, 0.24),
    "NIKON D750": SensorNoise(81_600.0, 3.0, 1.2, 0.45),
    "dng": SensorNoise(81_600.0, 3.0, 1.2, 0.45),
}


@dataclass(frozen=True)
class NightSettings:
    """What nights are drawn from; ranges are (lowest, highest). UsageError for what is none.

    stops: how far below a normal exposure the photograph's mid-tones fall, uniform; 3 is a lit
    street, at 7 a mid-tone is half an electron of the RX100's, four of the D750's. scale: mosaic
    pixels per photograph pixel and side; 2, since packing halves. pattern: colours of the mosaic's
    top-left 2x2 cell.

    illuminant_k: colour temperature of the scene's light and of each lamp, uniform in mired
    (1e6 / kelvin, steps of equal look): sodium lamps 2000 K, cold LED and moonless sky glow 6500 K.
    lamps: how many shine into the picture. lamp_size: diameter or longer side, as a share of the
    picture's longer side, log-uniform: a lantern across a street to one nearby. lamp_light:
    radiance as a multiple of what saturates green, log-uniform; from 5 on every colour of every
    lamp clips. glare: the share of a lamp's light that lens and air spread around it, uniform: a
    clean lens 1 percent, a dirty or wet windscreen 10; assumed.

    white_headroom: scene light of a photograph's white, as a multiple of what a linear encoding
    would give it; 3 puts it 4 stops above a grey card (0.18 x 2^4), as tone curves of cameras do.
    shoulder: linear value from which that curve compresses; mid-tones stay as they are.
    normal_level: share of white at which a normal exposure puts the mid-tones (a grey card, 18 %).
    noise: False leaves the noise out, the clean picture of the same night.
    """

    stops: Range = (3.0, 7.0)
    scale: float = 2.0
    pattern: str = "RGGB"
    illuminant_k: Range = (2000.0, 6500.0)
    lamps: tuple[int, int] = (1, 6)
    lamp_size: Range = (0.004, 0.03)
    lamp_light: Range = (5.0, 100.0)
    glare: Range = (0.01, 0.1)
    white_headroom: float = 3.0
    shoulder: float = 0.5
    normal_level: float = 0.18
    noise: bool = True

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            pair = value if isinstance(value, tuple) else (value, value)
            if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
                raise UsageError(
                    f"{name} {_shown(value)} is not within {low:g} and {high:g}"
                    + (", the lower number first" if isinstance(value, tuple) else "")
                )
        if self.pattern not in PHASES:
            raise UsageError(f"pattern {self.pattern!r} is none of {', '.join(PHASES)}")

    def record(self) -> dict[str, Any]:
        """As plain JSON values, for the manifest."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> NightSettings:
        """The inverse of `record`; other keys, as a manifest's settings have, are passed over."""
        known = {field.name for field in fields(NightSettings)} & set(record)
        values: dict[str, Any] = {}
        for key in known:
            value = record[key]
            values[key] = tuple(value) if isinstance(value, list) else value
        return NightSettings(**values)


# What each number may be. 1667 to 25000 K is where the formulas of colour temperature hold.
_LIMITS: dict[str, Range] = {
    "stops": (-2.0, 14.0),
    "scale": (0.05, 8.0),
    "illuminant_k": (1667.0, 25000.0),
    "lamps": (0, 1000),
    "lamp_size": (1e-4, 1.0),
    "lamp_light": (1e-3, 1e6),
    "glare": (0.0, 1.0),
    "white_headroom": (1.0, 1000.0),
    "shoulder": (0.0, 0.99),
    "normal_level": (1e-3, 1.0),
}


def iso_of(stops: float) -> int:
    """The ISO of a night `stops` below a normal exposure: 800 at 3 stops, 1600 at 5, 3200 at 7.

    A photographer makes up half of the missing light with ISO, in whole stops; the other half,
    with auto-exposure misled by the lamps, stays missing.
    """
    iso = 800 * 2 ** round((stops - 3.0) / 2.0)
    return int(min(max(iso, LOWEST_ISO), HIGHEST_ISO))


def _shown(value: object) -> str:
    return " ".join(f"{v:g}" for v in (value if isinstance(value, tuple) else (value,)))
