"""Settings of a detector either hold, or are refused."""

from __future__ import annotations

from typing import Any

import pytest

from rawisp.detect.settings import GuideSettings
from rawisp.errors import UsageError

PERSON = ("person",)


def test_the_size_is_the_detectors_input() -> None:
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    guide: Any = GuideSettings(name, "random", PERSON, (640, 480)).create()
    assert (guide.model.transform.min_size, guide.model.transform.max_size) == ((480,), 640)
    assert guide.categories == (None, "person")


@pytest.mark.parametrize("name", ["tiny", "ssdlite320_mobilenet_v3_large"])
def test_a_size_that_would_do_nothing_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--detector-size is for torchvision's detectors that"):
        GuideSettings(name, "random", PERSON, (640, 480)).create()
