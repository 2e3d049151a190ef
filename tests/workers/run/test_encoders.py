"""One run has one encoder and one codec, whatever stops it and wherever its segments are made."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import media._encoder_trial
import media.encoder_choice
import media.encoding
from media import EncodeOptions, EncoderUnavailableError, VideoReader, probe
from media._hardware import HardwareSettings
from media.sizes import SizeRequest
from pipelines.model import Model
from tests.workers.made import FAST, make_video, video_packets
from tests.workers.run.test_resume import stop_after
from workers.run.decisions import DecidedRun, decide_run
from workers.run.options import UpscaleOptions
from workers.run.upscaler import upscale_file
from workers.segments.description import describe_run, options_from_json, rebuild_run

AUTO = replace(FAST, encoder="auto")
STANDIN = HardwareSettings("libx264", "nv12", {"preset": "fast", "crf": "30", "bf": "0", "forced-idr": "1"})


def options(**changes: Any) -> UpscaleOptions:
    fields: dict[str, Any] = {
        "size": SizeRequest(scale=Fraction(2)),
        "encode": AUTO,
        "segment_seconds": Fraction(1, 2),
    }
    return UpscaleOptions(**(fields | changes))


def add_hardware(patch: pytest.MonkeyPatch) -> None:
    """As if a graphics processor were there from now on."""
    media._encoder_trial._succeeds.cache_clear()
    patch.setattr(media.encoder_choice, "_has_device", lambda family: True)
    patch.setattr(media.encoding, "hardware_settings", lambda family, codec, **_: STANDIN)


def decide(clip: Path, model: Model, wanted: UpscaleOptions) -> DecidedRun:
    with VideoReader(probe(clip)) as reader:
        return decide_run(reader.info, reader, model=model, options=wanted)


def test_a_run_is_encoded_by_what_works(
    clip: Path, tmp_path: Path, bicubic: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_hardware(monkeypatch)
    wanted = options(duration_seconds=Fraction(1), use_compare_video=True)
    report = upscale_file(clip, tmp_path / "a.mp4", model=bicubic, options=wanted)
    assert report.encoding is not None
    assert (report.encoding.encoder_pix_fmt, report.encoding.private_options) == ("nv12", STANDIN[2])
    with av.open(str(tmp_path / "a.mp4")) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert times == [Fraction(number, 25) for number in range(25)]
    assert (tmp_path / "a.compare.mp4").exists()


def test_a_run_that_software_began_is_finished_by_software(
    clip: Path, tmp_path: Path, bicubic: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    upscale_file(clip, tmp_path / "whole.mp4", model=bicubic, options=options())
    out = tmp_path / "out.mp4"
    stop_after(clip, out, 61, model=bicubic, wanted=options())
    add_hardware(monkeypatch)
    report = upscale_file(clip, out, model=bicubic, options=options(), existing="resume")
    assert report.num_resumed_frames > 0
    assert video_packets(out) == video_packets(tmp_path / "whole.mp4")


def test_a_run_that_hardware_began_is_not_finished_by_another_encoder(
    clip: Path, tmp_path: Path, bicubic: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        add_hardware(patch)
        stop_after(clip, out, 61, model=bicubic, wanted=options())
    record = out.with_name("out.mp4.dovetail") / "run.json"
    content = json.loads(record.read_text())
    content["encoding"]["encoder"] = "h264_nvenc"
    record.write_text(json.dumps(content))
    with pytest.raises(EncoderUnavailableError, match="h264_nvenc does not work"):
        upscale_file(clip, out, model=bicubic, options=options(), existing="resume")


def test_segments_made_elsewhere_have_the_encoder_that_was_planned(
    clip: Path, bicubic: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = options()
    planned = decide(clip, bicubic, wanted)
    assert planned.encode.encoder == "software"
    values = json.loads(json.dumps(describe_run(planned, options=wanted, model=bicubic)))
    add_hardware(monkeypatch)
    assert decide(clip, bicubic, wanted).encode.encoder == "nvenc"
    with VideoReader(probe(clip)) as reader:
        _, rebuilt = rebuild_run(values, reader.info, reader, model=bicubic)
    assert (rebuilt.encode, rebuilt.encoding) == (planned.encode, planned.encoding)
    assert options_from_json(values["options"]).encode == replace(AUTO, encoder="software")


def test_a_worker_without_the_planned_encoder_says_so(
    clip: Path, bicubic: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        add_hardware(patch)
        planned = decide(clip, bicubic, options())
        values = describe_run(planned, options=options(), model=bicubic)
    with VideoReader(probe(clip)) as reader, pytest.raises(EncoderUnavailableError, match="h264_nvenc"):
        rebuild_run(values, reader.info, reader, model=bicubic)


@pytest.mark.parametrize("codec", ["auto", "h264"])
def test_a_picture_too_wide_for_h264s_hardware_is_h265_unless_named(
    tmp_path: Path, bicubic: Model, codec: Any
) -> None:
    clip = make_video(tmp_path / "clip.mp4", 2, size=(264, 16))
    encode = EncodeOptions(codec=codec, preset="ultrafast", crf=40)
    wanted = UpscaleOptions(size=SizeRequest(scale=Fraction(16)), encode=encode)
    report = upscale_file(clip, tmp_path / "a.mp4", model=bicubic, options=wanted)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        found = stream.codec_context.codec.canonical_name, stream.codec_context.codec_tag, stream.width
    assert found == (("h264", "avc1", 4224) if codec == "h264" else ("hevc", "hvc1", 4224))
    assert any("4224x256" in warning and "hardware" in warning for warning in report.warnings)


@pytest.mark.parametrize(("keep", "matrix"), [(False, 1), (True, 5)])
def test_enlarged_to_hd_the_colours_are_the_same_and_the_matrix_is_bt709s(
    tmp_path: Path, bicubic: Model, keep: bool, matrix: int
) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 360, 288, "yuv420p"  # PAL's lines, no tags
        frame = av.VideoFrame(360, 288, "yuv420p")
        for plane, value in zip(frame.planes, (81, 90, 200), strict=True):  # a red
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    wanted = UpscaleOptions(
        size=SizeRequest(scale=Fraction(4)), encode=EncodeOptions(crf=4, preset="ultrafast", keep_matrix=keep)
    )
    upscale_file(path, tmp_path / "a.mp4", model=bicubic, options=wanted)
    means = []
    for file in (path, tmp_path / "a.mp4"):
        info = probe(file)
        with VideoReader(info) as reader:
            means.append(np.array([float(c.mean()) * 255 for c in next(reader.frames()).image]))
    assert (info.video.width, info.video.color.matrix, info.video.color.primaries) == (1440, matrix, 5)
    assert np.abs(means[0] - means[1]).max() < 1.5
