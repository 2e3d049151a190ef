"""Who encodes. No graphics processor is needed: software stands in for encoders that work, scripts for
drivers that crash or hang; the encoders of the wheel fail as they do on any machine without the device."""

from pathlib import Path
from typing import Any, get_args

import av
import pytest
import torch
from av.codec.codec import Codec as AvCodec
from av.video.reformatter import VideoReformatter
from torch.utils.dlpack import from_dlpack

import media._encoder_trial
import media.encoder_choice
import media.encoding
from media import (
    ContentLight,
    EncodeError,
    EncodeOptions,
    EncoderUnavailableError,
    SegmentWriter,
    maker_of,
    pin_encoder,
    resolve_encoding,
)
from media._codecs import PRESETS, TRAITS
from media._hardware import HardwareFamily, HardwareSettings, hardware_settings
from media._rgb_to_yuv import RgbToYuv
from tests.media.sources import HDR10, HLG, picture, video_format

FAMILIES: tuple[HardwareFamily, ...] = get_args(HardwareFamily)
SIZE = {"width": 320, "height": 180}
STANDIN = HardwareSettings(
    "libx264", "nv12", {"preset": "ultrafast", "crf": "18", "bf": "0", "forced-idr": "1"}
)


@pytest.fixture(autouse=True)
def _forgotten_trials() -> None:
    media._encoder_trial._succeeds.cache_clear()


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this machine had a graphics processor of every kind."""
    monkeypatch.setattr(media.encoder_choice, "_has_device", lambda family: True)


def stand_in(monkeypatch: pytest.MonkeyPatch, settings: HardwareSettings) -> None:
    monkeypatch.setattr(media.encoding, "hardware_settings", lambda family, codec, **_: settings)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
def test_every_option_is_one_of_the_encoders(family: HardwareFamily, codec: Any) -> None:
    for preset, crf in [(None, 20), *((name, 51) for name in PRESETS), ("medium", 1)]:
        for pix_fmt in TRAITS[codec].pix_fmts[:1] if codec == "h264" else ("yuv420p", "yuv420p10le"):
            found = hardware_settings(family, codec, crf=crf, preset=preset, pix_fmt=pix_fmt)
            taken = [each.name for each in AvCodec(found.encoder, "w").video_formats or ()]
            assert found.pix_fmt in taken
            known = av.CodecContext.create(found.encoder, "w").supported_options
            options = {option.name: option for option in (*known.generic, *known.private)}
            for name, value in found.private_options.items():
                option = options[name]
                names = [choice.name for choice in option.choices]
                assert value in names or option.min <= float(value) <= option.max, (name, value)


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
@pytest.mark.parametrize("family", FAMILIES)
def test_hardware_keeps_what_software_has(family: Any, codec: Any) -> None:
    layout = video_format(**SIZE, bit_depth=8 if codec == "h264" else 10)
    software = resolve_encoding(EncodeOptions(codec=codec), layout)
    hardware = resolve_encoding(EncodeOptions(codec=codec, encoder=family), layout)
    for name in ("codec", "pix_fmt", "use_dither", "width", "height", "color", "gop_size", "codec_tag"):
        assert getattr(hardware, name) == getattr(software, name)
    assert hardware.private_options["bf"] == "0"
    assert maker_of(hardware.encoder) == family
    assert maker_of(software.encoder) == "software"


@pytest.mark.parametrize("pix_fmts", [("yuv420p", "nv12"), ("yuv420p10le", "p010le")])
def test_other_planes_have_the_same_samples(pix_fmts: tuple[str, str]) -> None:
    frame = RgbToYuv(66, 50, pix_fmt=pix_fmts[0], matrix=1).convert(picture(0, width=66, height=50))
    packer = VideoReformatter()
    packed = packer.reformat(frame, format=pix_fmts[1], threads=1)
    back = packer.reformat(packed, format=pix_fmts[0], threads=1)
    for one, other in zip(frame.planes, back.planes, strict=True):
        assert torch.equal(from_dlpack(one), from_dlpack(other))


@pytest.mark.usefixtures("devices")
def test_auto_is_software_where_no_driver_works() -> None:
    assert pin_encoder(EncodeOptions(encoder="auto"), video_format(**SIZE)).encoder == "software"


def test_auto_tries_nothing_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media.encoder_choice, "_DEVICES", Path("/nowhere"))
    monkeypatch.setattr(media.encoder_choice.sys, "platform", "linux")
    monkeypatch.setattr(media.encoder_choice, "encoding_works", None)  # a call would raise
    assert pin_encoder(EncodeOptions(encoder="auto"), video_format(**SIZE)).encoder == "software"


def test_an_encoder_that_is_named_has_to_work() -> None:
    with pytest.raises(EncoderUnavailableError, match=r"h264_nvenc does not work.*320x180 nv12.*libx264"):
        pin_encoder(EncodeOptions(encoder="nvenc"), video_format(**SIZE))


@pytest.mark.usefixtures("devices")
def test_auto_takes_what_was_seen_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, STANDIN)
    assert pin_encoder(EncodeOptions(encoder="auto"), video_format(**SIZE)).encoder == "nvenc"


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("changes", [{"preset": "medium", "bf": "2"}, {"crf": "nonsense"}])
def test_auto_refuses_what_would_break_segments(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    stand_in(monkeypatch, STANDIN._replace(private_options=STANDIN.private_options | changes))
    assert pin_encoder(EncodeOptions(encoder="auto"), video_format(**SIZE)).encoder == "software"


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("act", ["kill -SEGV $$", "kill -ABRT $$", "exec sleep 30", "exit 3"])
def test_a_driver_that_crashes_or_hangs_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    stand_in(monkeypatch, STANDIN)
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho >> {tmp_path}/tries\n{act}\n")
    program.chmod(0o755)
    monkeypatch.setattr(media._encoder_trial.sys, "executable", str(program))
    monkeypatch.setattr(media._encoder_trial, "_TIMEOUT_SECONDS", 0.5)
    for _ in range(2):
        assert pin_encoder(EncodeOptions(encoder="auto"), video_format(**SIZE)).encoder == "software"
    assert (tmp_path / "tries").read_text().count("\n") == 1  # the same settings are tried once


@pytest.mark.parametrize(
    ("options", "layout", "reason"),
    [
        ({"crf": 0}, {}, "lossless"),
        ({"pix_fmt": "yuv444p"}, {}, "yuv444p"),
        ({"codec": "h264"}, {"bit_depth": 10}, "10 bits"),
        ({"codec": "av1", "preset": "8"}, {}, "preset 8"),
        ({"codec": "vp9"}, {}, "codec vp9"),
    ],
)
@pytest.mark.usefixtures("devices")
def test_what_hardware_cannot_do_stays_with_software(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], layout: dict[str, Any], reason: str
) -> None:
    stand_in(monkeypatch, STANDIN)
    shape = video_format(**SIZE, **layout)
    assert pin_encoder(EncodeOptions(encoder="auto", **options), shape).encoder == "software"
    with pytest.raises(EncodeError, match=reason):
        pin_encoder(EncodeOptions(encoder="qsv", **options), shape)


@pytest.mark.usefixtures("devices")
def test_auto_keeps_hdr10s_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, STANDIN)
    light = ContentLight(max_content=1000, max_average=400)
    shape = video_format(**SIZE, color=HDR10, content_light=light)
    assert pin_encoder(EncodeOptions(codec="h265", encoder="auto"), shape).encoder == "software"
    named = resolve_encoding(EncodeOptions(codec="h265", encoder="nvenc"), shape)
    assert any("light levels" in warning for warning in named.warnings)
    assert named.chroma_site == "left"  # nothing signals another position
    plain = video_format(**SIZE, color=HLG)
    assert pin_encoder(EncodeOptions(codec="h265", encoder="auto"), plain).encoder == "nvenc"


def test_frames_are_repacked_for_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def planes(path: Path, options: EncodeOptions) -> list[torch.Tensor]:
        with SegmentWriter(path, video_format(), options) as writer:
            for number in range(3):
                writer.write(picture(number), 2 * number, 2)
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
        assert [frame.pts for frame in frames] == [0, 2, 4]
        assert {(frame.colorspace, frame.color_primaries, frame.color_range) for frame in frames} == {
            (1, 1, 1)
        }
        return [from_dlpack(plane).clone() for frame in frames for plane in frame.planes]

    software = EncodeOptions(preset="ultrafast", crf=18, num_threads=1)
    expected = planes(tmp_path / "a.mp4", software)
    stand_in(monkeypatch, STANDIN)
    found = planes(tmp_path / "b.mp4", EncodeOptions(encoder="nvenc", num_threads=1))
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
