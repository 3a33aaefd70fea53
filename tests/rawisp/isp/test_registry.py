"""Settings of another kind are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from rawisp.errors import UsageError
from rawisp.isp.registry import create_isp


@pytest.mark.parametrize(
    ("isp", "settings", "said"),
    [
        ("staged", {"gamma": "abc"}, r"staged: the setting gamma is 'abc'; it takes a number"),
        ("staged", {"grey_world": 1}, "grey_world is 1; it takes true or false"),
        ("classic", {"saturation": True}, "saturation is True; it takes a number"),
        ("adaptive-isp", {"steps": 2.5}, "steps is 2.5; it takes a whole number"),
        ("adaptive-isp", {"letterbox": "yes"}, "letterbox is 'yes'; it takes true or false or"),
        ("genisp", {"slope": "x"}, "slope is 'x'; it takes a number or none"),
        ("raw-adapter", {"light": 3}, "light is 3; it takes a word"),
    ],
)
def test_a_value_of_another_kind_names_the_setting(
    isp: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        create_isp(isp, **settings)


def test_values_of_json_are_taken() -> None:
    create_isp("staged", gamma=1, grey_world=True)
    create_isp("genisp", slope=None, pools=[2, 2, 2])
    create_isp("film-unet", widths=[8, 8, 8])
