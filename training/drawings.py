"""Drawn pictures for training: lines, tiles, shapes and letters on plain ground or over photographs.

Photographs have few edges as straight, thin and hard as those of lettering, line work, screens and cartoons,
and a network that has seen none leaves them as soft as interpolation does. Nothing is loaded but fonts.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

_OVERSAMPLING = 3  # edges lie between pixels, as a camera sees them
_SOFT_PROBABILITY = 0.5
_SOFT_SIGMA = (0.3, 0.8)  # pixels: a lens
_LETTERS = string.ascii_letters + string.digits + ".,:;!?&%+-()"

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]


def draw_picture(rng: np.random.Generator, side: int, photo: np.ndarray | None = None) -> np.ndarray:
    """Draws a picture that nobody has seen.

    Args:
        rng: Source of every choice.
        side: Height and width.
        photo: (H, W, 3) uint8, to draw over a part of it; plain ground without, or where it is smaller.

    Returns:
        (side, side, 3), uint8.
    """
    ground = _ground(rng, side) if photo is None or min(photo.shape[:2]) < side else _part(rng, side, photo)
    large = ground.resize((side * _OVERSAMPLING,) * 2, Image.Resampling.NEAREST)
    for number in rng.choice(len(_LAYERS), size=rng.integers(1, 4)):
        _LAYERS[number](large, rng)
    picture = large.reduce(_OVERSAMPLING)
    if rng.random() < _SOFT_PROBABILITY:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(*_SOFT_SIGMA)))
    return np.array(picture)


def _ground(rng: np.random.Generator, side: int) -> Image.Image:
    """One colour, a gradient or clouds."""
    cells = int(rng.choice((1, 1, 2, 3)))
    colours = np.array([_colour(rng) for _ in range(cells**2)], np.uint8).reshape(cells, cells, 3)
    return Image.fromarray(colours).resize((side, side), Image.Resampling.BICUBIC)


def _part(rng: np.random.Generator, side: int, photo: np.ndarray) -> Image.Image:
    y, x = (int(rng.integers(length - side + 1)) for length in photo.shape[:2])
    return Image.fromarray(photo[y : y + side, x : x + side])


def _colour(rng: np.random.Generator) -> Colour:
    """Any colour; half of the time a grey, often nearly black or white."""
    if rng.random() < 0.5:
        level = int(np.clip(rng.choice((0, 30, 128, 225, 255)) + rng.integers(-25, 26), 0, 255))
        return level, level, level
    red, green, blue = (int(level) for level in rng.integers(0, 256, 3))
    return red, green, blue


def _tilted(rng: np.random.Generator, side: int) -> Callable[[np.ndarray], Points]:
    """Turns points and leans them into the picture, around its centre; half of the time hardly at all."""
    angle = float(rng.normal(0, 0.02) if rng.random() < 0.5 else rng.uniform(0, np.pi))
    lean = rng.uniform(-0.5, 0.5, 2) * (rng.random() < 0.5)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def place(points: np.ndarray) -> Points:
        centred = (points / side - 0.5) @ turn.T
        placed = (centred / (1 + centred @ lean)[:, None] + 0.5) * side
        return [(float(x), float(y)) for x, y in placed]

    return place


def _width(rng: np.random.Generator) -> int:
    """Of a line, in pixels of the large picture: from less than a pixel to many, thin ones more often."""
    return max(1, round(_OVERSAMPLING * float(np.exp(rng.uniform(np.log(0.6), np.log(9))))))


def _draw_lines(picture: Image.Image, rng: np.random.Generator) -> None:
    """Parallel lines, or two sets that cross: rulings, fences, shutters, the mat under a tailor's knife."""
    side = picture.width
    draw, place, width = ImageDraw.Draw(picture), _tilted(rng, side), _width(rng)
    pitch = width * float(np.exp(rng.uniform(np.log(1.6), np.log(14))))
    colour, along = _colour(rng), np.array([-0.5, 1.5]) * side
    for is_crossing in (False, True)[: rng.integers(1, 3)]:
        for offset in np.arange(-0.4 * side, 1.4 * side, pitch):
            across = np.full(2, offset)
            draw.line(place(np.stack((across, along) if is_crossing else (along, across), 1)), colour, width)


def _draw_tiles(picture: Image.Image, rng: np.random.Generator) -> None:
    """Bricks, chequers, windows: a stretch of one tile again and again."""
    side = picture.width
    draw, place = ImageDraw.Draw(picture), _tilted(rng, side)
    pitch = _OVERSAMPLING * np.exp(rng.uniform(np.log(4), np.log(60), 2))
    fill = rng.uniform(0.4, 0.97)
    shift, colours = rng.choice((0.0, 0.5)), [_colour(rng) for _ in range(rng.integers(1, 4))]
    (left, right), (top, bottom) = np.sort(rng.uniform(-0.2, 1.2, (2, 2))) * side
    for row, y in enumerate(np.arange(top, bottom, pitch[1])):
        for x in np.arange(left, right, pitch[0]) + (row % 2) * shift * pitch[0]:
            corners = np.array([(0, 0), (fill, 0), (fill, fill), (0, fill)]) * pitch + (x, y)
            draw.polygon(place(corners), colours[rng.integers(len(colours))])


def _draw_shapes(picture: Image.Image, rng: np.random.Generator) -> None:
    """Polygons and ellipses, filled, outlined or both, over each other: logos and cartoons."""
    side = picture.width
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(3, 16)):
        radius = side * float(np.exp(rng.uniform(np.log(0.01), np.log(0.25))))
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
        if rng.random() < 0.4:
            angles = np.linspace(0, 2 * np.pi, 60)
        squash, angle = rng.uniform(0.3, 1), rng.uniform(0, np.pi)
        points = np.stack((np.cos(angles), squash * np.sin(angles)), 1) * radius
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        outline = [(float(x), float(y)) for x, y in points @ turn.T + rng.uniform(0, side, 2)]
        has_fill = rng.random() < 0.7
        if has_fill:
            draw.polygon(outline, _colour(rng))
        if not has_fill or rng.random() < 0.5:
            draw.line([*outline, outline[0]], _colour(rng), _width(rng), joint="curve")


def _draw_letters(picture: Image.Image, rng: np.random.Generator) -> None:
    """Lines of letters in one font, level or turned, some with an outline as subtitles have."""
    side = picture.width
    size = round(_OVERSAMPLING * float(np.exp(rng.uniform(np.log(8), np.log(80)))))
    font = ImageFont.truetype(_fonts()[rng.integers(len(_fonts()))], size)
    num_lines, num_letters = rng.integers(1, 7), int(rng.integers(2, 1 + max(4, 2 * side // size)))
    text = "\n".join("".join(rng.choice(list(_LETTERS + " " * 12), num_letters)) for _ in range(num_lines))
    mask = Image.new("L", picture.size)
    edge = Image.new("L", picture.size)
    at = (float(rng.uniform(-0.1, 0.6) * side), float(rng.uniform(-0.05, 0.9) * side))
    stroke = max(1, size // 14) * int(rng.random() < 0.3)
    ImageDraw.Draw(mask).multiline_text(at, text, 255, font)
    ImageDraw.Draw(edge).multiline_text(at, text, 255, font, stroke_width=stroke)
    angle = 0.0 if rng.random() < 0.5 else float(rng.uniform(0, 360))
    for layer in (edge, mask) if stroke else (mask,):
        picture.paste(_colour(rng), mask=layer.rotate(angle, Image.Resampling.BICUBIC))


@functools.cache
def _fonts() -> list[str]:
    """Those that matplotlib brings along: sans, serif and typewriter, upright, slanted and bold."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = [*folder.glob("DejaVuS*.ttf"), *folder.glob("STIXGeneral*.ttf")]
    return [str(file) for file in sorted(files)]


_LAYERS: tuple[Callable[[Image.Image, np.random.Generator], None], ...] = (
    _draw_lines, _draw_tiles, _draw_shapes, _draw_letters,
)  # fmt: skip
