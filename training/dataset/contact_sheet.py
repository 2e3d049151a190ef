"""Pictures to look at: a frame of every scene, what was cut out of it, and why it was kept or dropped."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from training.dataset.records import Box, Reason
from training.dataset.selection import PartDecision, SourceDecision

_COLUMNS, _ROWS = 5, 6
_TILE = (320, 180)
_CAPTION_HEIGHT, _GAP = 74, 8
_CHARACTERS, _LINES = 54, 5
_KEPT, _DROPPED, _PAPER, _INK = (40, 140, 60), (190, 50, 40), (250, 250, 250), (20, 20, 20)


@dataclass(frozen=True)
class Tile:
    """A picture with its caption.

    Attributes:
        thumbnail: A picture of the whole frame; None for what was not read.
        size: Height and width of the frame, for the box.
        crop: What was cut out.
    """

    caption: str
    is_kept: bool
    thumbnail: Path | None = None
    size: tuple[int, int] = (0, 0)
    crop: Box | None = None


def source_tile(source: SourceDecision) -> Tile:
    """A tile for a file that has no scenes."""
    name = Path(source.facts.path).name
    return Tile(caption="\n".join([name, *map(_reason_line, source.reasons)]), is_kept=False)


def part_tile(source: SourceDecision, decision: PartDecision, thumbnail: Path) -> Tile:
    """A tile for a part of a scene."""
    part, measures = decision.part, decision.part.measures
    where = f"{Path(source.facts.path).name} scene {part.scene}"
    if part.num_parts > 1:
        where += f" ({part.part}/{part.num_parts})"
    lines = [f"{where}, {part.num_frames} frames"]
    if measures is not None:
        lines.append(
            f"sharp {measures.sharpness:.0f} fine {measures.fine_detail:.2f} block {measures.blockiness:.2f} "
            f"noise {measures.noise:.1f} motion {measures.peak_motion:.1f}"
        )
    if decision.crop is not None:
        lines.append(f"{decision.crop.width}x{decision.crop.height}, score {decision.score:.2f}")
    lines += map(_reason_line, decision.reasons)
    return Tile(
        "\n".join(lines),
        decision.is_kept,
        thumbnail,
        (source.facts.height, source.facts.width),
        decision.crop,
    )


def draw_sheets(tiles: Sequence[Tile]) -> Iterator[Image.Image]:
    """Pages with all tiles, those that were kept first."""
    ordered = sorted(tiles, key=lambda tile: not tile.is_kept)
    font = ImageFont.load_default(11)
    per_page = _COLUMNS * _ROWS
    for first in range(0, len(ordered), per_page):
        page = ordered[first : first + per_page]
        num_rows = -(-len(page) // _COLUMNS)
        width = _COLUMNS * (_TILE[0] + _GAP) + _GAP
        height = num_rows * (_TILE[1] + _CAPTION_HEIGHT + _GAP) + _GAP
        sheet = Image.new("RGB", (width, height), _PAPER)
        for index, tile in enumerate(page):
            row, column = divmod(index, _COLUMNS)
            position = (
                _GAP + column * (_TILE[0] + _GAP),
                _GAP + row * (_TILE[1] + _CAPTION_HEIGHT + _GAP),
            )
            sheet.paste(_draw_tile(tile, font), position)
        yield sheet


def _draw_tile(tile: Tile, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    color = _KEPT if tile.is_kept else _DROPPED
    canvas = Image.new("RGB", (_TILE[0], _TILE[1] + _CAPTION_HEIGHT), _PAPER)
    draw = ImageDraw.Draw(canvas)
    if tile.thumbnail is not None and tile.thumbnail.exists():
        _paste_thumbnail(canvas, draw, tile, color)
    draw.rectangle((0, 0, _TILE[0] - 1, _TILE[1] - 1), outline=color, width=3)
    lines = [line for text in tile.caption.splitlines() for line in textwrap.wrap(text, _CHARACTERS)]
    draw.multiline_text((2, _TILE[1] + 3), "\n".join(lines[:_LINES]), fill=_INK, font=font, spacing=2)
    return canvas


def _paste_thumbnail(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, color: tuple[int, int, int]
) -> None:
    assert tile.thumbnail is not None
    with Image.open(tile.thumbnail) as picture:
        picture.thumbnail(_TILE)
        left, top = (_TILE[0] - picture.width) // 2, (_TILE[1] - picture.height) // 2
        canvas.paste(picture, (left, top))
    if tile.crop is not None:
        scale_y, scale_x = picture.height / tile.size[0], picture.width / tile.size[1]
        crop = tile.crop
        corners = (
            left + crop.left * scale_x,
            top + crop.top * scale_y,
            left + (crop.left + crop.width) * scale_x - 1,
            top + (crop.top + crop.height) * scale_y - 1,
        )
        draw.rectangle(corners, outline=color, width=2)


def _reason_line(reason: Reason) -> str:
    return f"{reason.code}: {reason.text}"
