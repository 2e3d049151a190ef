"""Packs training pictures and videos into one file that is small enough to travel.

    python -m benchmarks.gpu.pack ../shared/training-data --output training-pack.tar

Pictures become JPEG, videos H.264 without chroma subsampling, at the best quality that fits. The file holds
other people's work: it is not committed.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image

from training.video_coding import decode_frames

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".mkv", ".mp4", ".mov"})
PICTURE_SHARE = 0.6
# (JPEG quality, longest side) and (CRF, frames) from good to small.
PICTURE_STEPS = ((94, 1920), (92, 1920), (90, 1600), (88, 1440), (85, 1280), (80, 1024), (75, 640), (60, 320))
VIDEO_STEPS = ((14, 120), (18, 100), (22, 80), (26, 40), (30, 16))


def main() -> None:
    """Packs a folder with `images/` and `video/`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with images/ and video/")
    parser.add_argument("--output", type=Path, default=Path("training-pack.tar"))
    parser.add_argument("--megabytes", type=float, default=35.0)
    arguments = parser.parse_args()
    size = pack(arguments.data, arguments.output, max_bytes=int(arguments.megabytes * 1e6))
    print(f"{arguments.output}: {size / 1e6:.1f} MB")


def pack(data: Path, output: Path, *, max_bytes: int) -> int:
    """Writes the file.

    Args:
        data: Folder with `images/` and `video/`.
        output: A tar file.
        max_bytes: Of the file.

    Returns:
        Its size.

    Raises:
        ValueError: If it cannot be that small.
    """
    pictures, videos = (
        sorted(path for path in (data / name).glob("*") if path.suffix.lower() in SUFFIXES)
        for name in ("images", "video")
    )
    budget = max_bytes - 2048 * (len(pictures) + len(videos) + 10)  # headers and padding of the tar file
    share = PICTURE_SHARE if pictures and videos else 1.0
    files = _fit(pictures, PICTURE_STEPS, encode_picture, "images", ".jpg", int(budget * share))
    left = budget - sum(len(content) for content in files.values())
    files |= _fit(videos, VIDEO_STEPS, encode_video, "video", ".mkv", left)
    with tarfile.open(output, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return output.stat().st_size


def _fit(
    paths: list[Path],
    steps: tuple[tuple[int, int], ...],
    encode: Callable[[Path, int, int], bytes],
    folder: str,
    suffix: str,
    max_bytes: int,
) -> dict[str, bytes]:
    """All files at the first step at which they fit together."""
    for step in steps:
        files: dict[str, bytes] = {}
        size = 0
        for path in paths:
            files[f"{folder}/{path.stem}{suffix}"] = content = encode(path, *step)
            size += len(content)
            if size > max_bytes:
                break
        else:
            print(f"{folder}: {len(files)} files, {size / 1e6:.1f} MB at {step}", flush=True)
            return files
    raise ValueError(f"{len(paths)} files of {folder} do not fit into {max_bytes} bytes")


def encode_picture(path: Path, quality: int, max_side: int) -> bytes:
    """A picture as JPEG without chroma subsampling."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def encode_video(path: Path, crf: int, max_frames: int) -> bytes:
    """The first frames of a video as H.264 4:4:4."""
    frames = decode_frames(path, max_frames)
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "video.mkv"
        with av.open(str(target), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
            for image in frames:
                cropped = np.ascontiguousarray(image[:height, :width])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(cropped, format="rgb24")))
            container.mux(stream.encode(None))
        return target.read_bytes()


if __name__ == "__main__":
    main()
