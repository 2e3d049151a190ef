"""Contrast of the page's colours, computed as WCAG 2.2 says, for light and dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STYLE = (Path(__file__).parents[2] / "service" / "web" / "static" / "style.css").read_text(encoding="utf-8")
BLOCKS = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
LIGHT, DARK = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in BLOCKS)

TEXT = 4.5
PARTS = 3.0
PAIRS = [
    *((text, ground, TEXT) for text in ("text", "muted") for ground in ("ground", "surface", "sunken")),
    *(("accent", ground, TEXT) for ground in ("ground", "surface")),
    *(("danger", ground, TEXT) for ground in ("ground", "surface", "sunken")),
    ("text", "raised", TEXT),
    ("on-accent", "accent", TEXT),
    ("on-accent", "accent-hover", TEXT),
    ("on-accent-soft", "accent-soft", TEXT),
    ("on-danger", "danger", TEXT),
    ("on-danger-soft", "danger-soft", TEXT),
    ("on-warn-soft", "warn-soft", TEXT),
    *(("line-strong", ground, PARTS) for ground in ("ground", "surface")),
    *(("focus", ground, PARTS) for ground in ("ground", "surface", "sunken")),
    ("accent", "sunken", PARTS),
]


def luminance(color: str) -> float:
    """Relative luminance of "#rrggbb", 0-1."""
    codes = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in codes)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_pairs_of_colors_can_be_told_apart(colors: dict[str, str]) -> None:
    found = {}
    for front, back, least in PAIRS:
        brighter, darker = sorted((luminance(colors[front]), luminance(colors[back])), reverse=True)
        contrast = (brighter + 0.05) / (darker + 0.05)
        if contrast < least:
            found[front, back] = round(contrast, 2)
    assert found == {}


def test_both_schemes_name_the_same_colors() -> None:
    assert LIGHT.keys() == DARK.keys()


def test_colors_stand_at_the_top_only() -> None:
    """Others escape the check above, apart from those on pictures, which are the same in both schemes."""
    rest = STYLE[STYLE.index("*, *::before") :]
    on_pictures = {"#0c0d0c", "#f2f1ee", "#ffffff", "#1f1d1a", "#8ab4ff", "#10204a", "#d0cfca", "#33342f"}
    assert set(re.findall(r"#[0-9a-f]{3,8}\b", rest)) <= on_pictures
