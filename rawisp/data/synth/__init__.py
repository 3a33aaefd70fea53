"""Night RAW files made from annotated photographs; docs/synth.md says what is simulated."""

from rawisp.data.synth.bodies import BODIES, body_named, write_night
from rawisp.data.synth.darkness import Lamp, Night
from rawisp.data.synth.photograph import PHOTOGRAPH_SUFFIXES, read_photograph
from rawisp.data.synth.render import mosaic_size, night_generator, night_mosaic, render_night
from rawisp.data.synth.settings import NightSettings

__all__ = [
    "BODIES",
    "PHOTOGRAPH_SUFFIXES",
    "Lamp",
    "Night",
    "NightSettings",
    "body_named",
    "mosaic_size",
    "night_generator",
    "night_mosaic",
    "read_photograph",
    "render_night",
    "write_night",
]
