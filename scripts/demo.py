"""Makes a small, soft, noisy video, restores it with `dovetail upscale`, and shows both side by side.

Needs no download and no video of yours: the clip is a camera move over a photograph that comes with
matplotlib (Grace Hopper, 1984, US Navy, public domain).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from matplotlib import cbook
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WIDTH, HEIGHT, FPS, SCALE = 160, 120, 24, 4
SAMPLE_RATE = 48_000
# Where the camera starts and ends: left, top, right, bottom in pixels of the photograph (512 x 600), 4:3.
FIRST_VIEW, LAST_VIEW = (0.0, 60.0, 512.0, 444.0), (104.0, 78.0, 392.0, 294.0)
# What is enlarged in the comparison, as shares of the sides of the picture.
DETAIL = (0.3, 0.02, 0.75, 0.47)


def main() -> None:
    """Makes the clip, upscales it, and writes the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the results")
    parser.add_argument("--frames", type=int, default=40, help="frames of the clip")
    parser.add_argument("--model", help="checkpoint, as for dovetail upscale (default: the embedded one)")
    arguments = parser.parse_args()

    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    clip, restored, picture = folder / "clip.mp4", folder / "restored.mp4", folder / "comparison.png"

    print(f"Making a low-quality clip: {arguments.frames} frames of {WIDTH}x{HEIGHT} ...", flush=True)
    make_clip(clip, num_frames=arguments.frames)
    model = ["--model", arguments.model] if arguments.model else []
    command = ["upscale", str(clip), str(restored), "--scale", str(SCALE), "--overwrite", *model]
    print("$ dovetail " + " ".join(command), flush=True)
    finished = subprocess.run([sys.executable, "-m", "cli.main", *command], check=False)
    if finished.returncode:
        sys.exit(finished.returncode)
    label = Path(arguments.model).name if arguments.model else "dovetail-nano-2"
    compare(clip, restored, picture, frame=arguments.frames // 4, label=label)
    print(f"\nBefore:      {clip}\nAfter:       {restored}\nSide by side: {picture}")


def make_clip(path: Path, *, num_frames: int) -> None:
    """Writes the degraded clip with a tone as its sound: H.264 and AAC."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "26", "preset": "medium"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for index, picture in enumerate(low_quality_frames(num_frames)):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for sound in tone(Fraction(num_frames, FPS)):
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def low_quality_frames(num_frames: int) -> Iterator[Image.Image]:
    """A slow zoom over the photograph; every frame small, soft and noisy."""
    photograph = Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB")
    rng = np.random.default_rng(0)
    for index in range(num_frames):
        share = index / max(1, num_frames - 1)
        share = share * share * (3 - 2 * share)  # eases in and out
        left, top, right, bottom = (a + (b - a) * share for a, b in zip(FIRST_VIEW, LAST_VIEW, strict=True))
        small = photograph.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=(left, top, right, bottom))
        soft = np.asarray(small.filter(ImageFilter.GaussianBlur(0.5)), dtype=np.float32)
        noisy = soft + rng.normal(0, 3, soft.shape)
        yield Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def tone(seconds: Fraction) -> Iterator[av.AudioFrame]:
    """A quiet 440 Hz, as float samples in frames of 1024."""
    num_samples = int(seconds * SAMPLE_RATE)
    wave = 0.1 * np.sin(2 * np.pi * 440 / SAMPLE_RATE * np.arange(num_samples), dtype=np.float32)
    for start in range(0, num_samples, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        yield frame


def compare(clip: Path, restored: Path, destination: Path, *, frame: int, label: str) -> None:
    """Writes one frame before (bicubic) and after, whole and in detail, with labels."""
    after = read_frame(restored, frame)
    before = read_frame(clip, frame).resize(after.size, Image.Resampling.BICUBIC)
    width, height = after.size
    margin, header = 8, 36
    sheet = Image.new("RGB", (2 * width + 3 * margin, header + 2 * (height + margin)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(22)
    for column, (name, image) in enumerate([("bicubic", before), (label, after)]):
        left = margin + column * (width + margin)
        draw.text((left, 4), name, fill="black", font=font)
        sheet.paste(image, (left, header))
        box = (DETAIL[0] * width, DETAIL[1] * height, DETAIL[2] * width, DETAIL[3] * height)
        detail = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
        sheet.paste(detail, (left, header + height + margin))
    sheet.save(destination)


def read_frame(path: Path, index: int) -> Image.Image:
    """Frame number `index` of a video."""
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == index:
                return Image.fromarray(frame.to_ndarray(format="rgb24"))
    raise IndexError(f"{path} has no frame {index}")


if __name__ == "__main__":
    main()
