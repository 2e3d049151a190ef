"""What dovetail-nano-2 makes of a few pictures, also where it fails: docs/images/nano2-examples.png.

    python -m benchmarks.nano2_pictures [--model dovetail-nano-2]

Cut-outs of a photograph (Grace Hopper, 1984, US Navy, public domain, comes with matplotlib) and of a drawn
card, degraded by recipes of `dovetail evaluate`: the input, bicubic interpolation, the model, the original.
Under each result its PSNR-Y.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from matplotlib import cbook
from PIL import Image, ImageDraw, ImageFont

from pipelines.clips import restore_clip
from pipelines.loaders import load_model
from pipelines.model import Model
from training.degradation import from_uint8, to_uint8
from training.evaluation import make_lq
from training.metrics import psnr_y

_PICTURE = Path(__file__).parents[1] / "docs/images/nano2-examples.png"
_SCALE, _SIDE, _MARGIN, _LINE = 4, 256, 8, 24


@dataclass(frozen=True)
class Example:
    """A row of the picture.

    Attributes:
        title: What it shows.
        picture: "photo" or "card".
        box: Left and top of the cut-out, pixels.
        recipe: How the whole picture is degraded.
    """

    title: str
    picture: str
    box: tuple[int, int]
    recipe: str


EXAMPLES = (
    Example("noise, JPEG, x264", "photo", (130, 40), "real"),
    Example("small, else clean", "card", (0, 0), "bicubic"),
    Example("lines finer than its pixels", "card", (0, 256), "bicubic"),
    Example("sharpened by a phone, low rate", "photo", (130, 40), "phone"),
)


def photograph() -> np.ndarray:
    """(600, 512, 3), uint8."""
    picture = Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB")
    return np.array(picture)[:600, :512]


def card() -> np.ndarray:
    """Lettering above, rulings of falling distance below: (512, 256, 3), uint8."""
    large = Image.new("RGB", (1024, 2048), (246, 243, 232))
    draw = ImageDraw.Draw(large)
    for top, size in ((30, 150), (220, 110), (370, 84), (490, 64), (590, 50), (680, 40)):
        draw.text((40, top), "Dovetail 4x enlarged", (30, 40, 70), ImageFont.load_default(size))
    for index, pitch in enumerate((64, 48, 36, 28, 22, 18, 14)):
        left = 30 + index * 140
        for offset in range(0, 900, pitch):
            draw.line((left, 1080 + offset, left + 120, 1060 + offset), (30, 40, 70), max(2, pitch // 3))
    return np.array(large.reduce(4))


def row(example: Example, model: Model) -> Image.Image:
    """The four cut-outs of an example."""
    hr = from_uint8(np.ascontiguousarray({"photo": photograph, "card": card}[example.picture]())[None])
    height, width = hr.shape[-2:]
    lq = make_lq(hr, example.recipe, _SCALE)
    restored = restore_clip(model, lq, (height, width))
    size = (height, width)
    results = {
        "input": F.interpolate(lq, size=size, mode="nearest"),
        "bicubic": F.interpolate(lq, size=size, mode="bicubic", align_corners=False).clamp(0, 1),
        model.card.name: restored,
        "original": hr,
    }
    left, top = example.box
    strip = Image.new("RGB", (len(results) * (_SIDE + _MARGIN), _SIDE + 2 * _LINE), "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(15)
    draw.text((0, 2), example.title, "black", font)
    for column, (name, frames) in enumerate(results.items()):
        part = frames[..., top : top + _SIDE, left : left + _SIDE]
        x = column * (_SIDE + _MARGIN)
        strip.paste(Image.fromarray(to_uint8(part)[0]), (x, _LINE))
        quality = f"  {float(psnr_y(part, hr[..., top : top + _SIDE, left : left + _SIDE])):.2f} dB"
        is_result = name not in ("input", "original")
        draw.text((x, _LINE + _SIDE + 2), name + quality * is_result, "black", font)
    return strip


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="dovetail-nano-2")
    model = load_model(parser.parse_args().model, device="cpu")
    strips = [row(example, model) for example in EXAMPLES]
    sheet = Image.new("RGB", (strips[0].width, sum(strip.height for strip in strips)), "white")
    for index, strip in enumerate(strips):
        sheet.paste(strip, (0, index * strip.height))
    sheet.save(_PICTURE)


if __name__ == "__main__":
    main()
