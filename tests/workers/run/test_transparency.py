"""Transparency beside the model: out of every kind of source that has it, into outputs that keep it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from media import EncodeOptions, VideoReader, probe
from media.info import TRANSPARENCY_WARNING
from media.sandbox import READ_MODULES, Sandbox
from media.sizes import SizeRequest
from media.transparency import enlarge_alpha
from pipelines.model import Model
from tests.workers import made
from tests.workers.made import StandIn, video_packets
from tests.workers.run.test_resume import stop_after
from tests.workers.segments.runs import check_segments
from tests.workers.transparent import HEIGHT, WIDTH, alpha_planes, expected, make_film
from workers.run.access import confined_access
from workers.run.options import UpscaleOptions
from workers.run.upscaler import upscale_file

PRORES = EncodeOptions(codec="prores", num_threads=1)
CODE = 1 / 1023


def options(**changes: Any) -> UpscaleOptions:
    return made.options(**({"size": SizeRequest(scale=Fraction(1)), "encode": PRORES} | changes))


KINDS = {
    "prores": {"codec": "prores_ks", "pix_fmt": "yuva444p10le"},
    "animation": {"codec": "qtrle", "pix_fmt": "argb"},
    "premultiplied": {"codec": "qtrle", "pix_fmt": "argb", "is_premultiplied": True},
    "pictures": {"codec": "png", "pix_fmt": "rgba"},
    "deep-pictures": {"codec": "png", "pix_fmt": "rgba64be"},
    "half-chroma": {"codec": "ffv1", "pix_fmt": "yuva420p"},
}


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_prores_keeps_opacity_and_the_colours_under_it(
    kind: str, scale: int, tmp_path: Path, bicubic: Model
) -> None:
    arguments: dict[str, Any] = KINDS[kind]
    source = make_film(tmp_path / ("s.mkv" if kind == "half-chroma" else "s.mov"), **arguments)
    wanted = options(size=SizeRequest(scale=Fraction(scale)))
    report = upscale_file(source, tmp_path / "o.mov", model=bicubic, options=wanted)
    assert not report.warnings
    assert report.encoding is not None
    assert report.encoding.pix_fmt == "yuva444p10le"
    planes = alpha_planes(tmp_path / "o.mov")
    assert len(planes) == 6
    # libswscale, which makes Y'CbCr sources here, changes opacity by a code or two.
    stored = alpha_planes(source) if kind in ("prores", "half-chroma") else [expected(n)[3] for n in range(6)]
    for plane, alpha in zip(planes, stored, strict=True):
        large = enlarge_alpha(alpha[None], (scale * HEIGHT, scale * WIDTH))[0]
        assert (plane - large).abs().max() < 1.01 * CODE
    with VideoReader(probe(tmp_path / "o.mov"), keep_alpha=True) as reader:
        image = next(iter(reader.frames())).image
    colour = torch.nn.functional.interpolate(expected(0)[None, :3], scale_factor=scale, mode="bicubic")[0]
    # Where colours were multiplied, 8 bits leave little of them below a fifth of opacity.
    seen = alpha_planes(tmp_path / "o.mov")[0] > (0.2 if kind == "premultiplied" else -1)
    bound = 6 if kind in ("half-chroma", "premultiplied") else 3
    error = 255 * (image - colour).abs().amax(0)[seen]
    assert error.max() < bound
    assert error.mean() < bound / 3


@pytest.mark.parametrize(
    ("suffix", "source_format", "pix_fmt", "step"),
    [
        (".png", "argb", "rgba", 1 / 255),
        (".png", "rgba64be", "rgba64be", 1 / 65535),
        (".tif", "argb", "rgba64le", 1 / 65535),
    ],
)
def test_frame_files_keep_opacity(
    suffix: str, source_format: str, pix_fmt: str, step: float, tmp_path: Path, bicubic: Model
) -> None:
    codec = "qtrle" if source_format == "argb" else "png"
    source = make_film(tmp_path / "s.mov", 2, codec=codec, pix_fmt=source_format)
    encode: Any = EncodeOptions(codec="png" if suffix == ".png" else "tiff")
    upscale_file(source, tmp_path / f"%03d{suffix}", model=bicubic, options=options(encode=encode))
    with av.open(str(tmp_path / f"002{suffix}")) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == pix_fmt
    depth = 255 if pix_fmt == "rgba" else 65535
    values = frame.to_ndarray().astype(np.float32) / depth
    error = np.abs(values - expected(1).permute(1, 2, 0).numpy())
    assert error.max() < step


@pytest.mark.parametrize(
    ("encode", "suffix"),
    [
        (EncodeOptions(codec="h264", preset="ultrafast"), ".mp4"),
        (replace(PRORES, pix_fmt="yuv422p10le"), ".mov"),
    ],
)
def test_outputs_without_a_place_for_opacity_lie_on_black_and_say_so(
    encode: EncodeOptions, suffix: str, tmp_path: Path, bicubic: Model
) -> None:
    source = make_film(tmp_path / "s.mov")
    report = upscale_file(source, tmp_path / f"o{suffix}", model=bicubic, options=options(encode=encode))
    assert TRANSPARENCY_WARNING in report.warnings
    with VideoReader(probe(tmp_path / f"o{suffix}")) as reader:
        image = next(iter(reader.frames())).image
    shown = expected(0)[:3] * expected(0)[3:]
    assert (image - shown).abs().mean() < 0.03


def test_a_source_without_used_opacity_stays_opaque(tmp_path: Path, bicubic: Model, clip: Path) -> None:
    report = upscale_file(
        clip, tmp_path / "o.mov", model=bicubic, options=options(duration_seconds=Fraction(1, 5))
    )
    assert report.encoding is not None
    assert report.encoding.pix_fmt == "yuv422p10le"


def test_opacity_comes_through_the_sandbox_bit_for_bit(tmp_path: Path, bicubic: Model) -> None:
    source = make_film(tmp_path / "s.mov")
    upscale_file(source, tmp_path / "a.mov", model=bicubic, options=options())
    with Sandbox(preload=READ_MODULES) as sandbox:
        access = confined_access(sandbox)
        upscale_file(source, tmp_path / "b.mov", model=bicubic, options=options(), access=access)
    assert (tmp_path / "a.mov").read_bytes() == (tmp_path / "b.mov").read_bytes()


def test_a_run_with_opacity_is_continued_to_the_same_packets(tmp_path: Path, bicubic: Model) -> None:
    source = make_film(tmp_path / "s.mov", 40)
    upscale_file(source, tmp_path / "whole.mov", model=bicubic, options=options())
    stop_after(source, tmp_path / "o.mov", 30, model=bicubic, wanted=options())
    report = upscale_file(source, tmp_path / "o.mov", model=bicubic, options=options(), existing="resume")
    assert report.num_resumed_frames > 0
    assert video_packets(tmp_path / "o.mov") == video_packets(tmp_path / "whole.mov")


def test_segments_made_alone_have_the_same_opacity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_film(tmp_path / "s.mov", 40)
    plans = check_segments(source, tmp_path, StandIn(), options(), monkeypatch)
    assert len(plans) > 1


def test_a_comparison_shows_pictures_on_black(tmp_path: Path, bicubic: Model) -> None:
    source = make_film(tmp_path / "s.mov", 1)
    upscale_file(source, tmp_path / "o.mov", model=bicubic, options=options(use_compare_image=True))
    with av.open(str(tmp_path / "o.compare.png")) as container:
        picture = torch.from_numpy(next(container.decode(video=0)).to_ndarray(format="rgb24").copy())
    shown = (expected(0)[:3] * expected(0)[3:]).permute(1, 2, 0) * 255
    for half in (picture[:, :WIDTH], picture[:, WIDTH:]):
        assert (half - shown).abs().max() <= 1
