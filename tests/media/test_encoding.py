"""Which settings follow from the caller's choices and the source: pure rules, no encoder runs."""

from fractions import Fraction
from typing import Any

import pytest

from media import ColorTags, ContentLight, EncodeError, EncodeOptions, MasteringDisplay, resolve_encoding
from media._codecs import PRESETS
from tests.media.sources import HDR10, HLG, SDR, video_format

DISPLAY = MasteringDisplay(
    red=(Fraction(34000, 50000), Fraction(16000, 50000)),
    green=(Fraction(13250, 50000), Fraction(34500, 50000)),
    blue=(Fraction(7500, 50000), Fraction(3000, 50000)),
    white_point=(Fraction(15635, 50000), Fraction(16450, 50000)),
    min_luminance=Fraction(50, 10000),
    max_luminance=Fraction(1000),
)
LIGHT = ContentLight(max_content=1000, max_average=400)


def settings(resolved: Any) -> str:
    return " ".join(f"{key}={value}" for key, value in resolved.private_options.items())


def test_default_is_playable_everywhere() -> None:
    resolved = resolve_encoding(EncodeOptions(), video_format())
    assert (resolved.encoder, resolved.pix_fmt, resolved.warnings) == ("libx264", "yuv420p", ())
    assert (resolved.private_options["crf"], resolved.private_options["preset"]) == ("18", "veryfast")


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_no_setting_ever_gives_b_frames(codec: Any) -> None:
    for color in (SDR, HDR10):
        assert (
            resolve_encoding(EncodeOptions(codec=codec), video_format(color=color)).private_options["bf"]
            == "0"
        )


@pytest.mark.parametrize(
    ("codec", "crf"),
    [("h264", -1), ("h264", 52), ("h265", 51.5), ("av1", 64), ("av1", 20.5), ("vp9", 64), ("vp9", 20.5)],
)
def test_crf_outside_the_codecs_range_is_refused(codec: Any, crf: float) -> None:
    with pytest.raises(EncodeError, match="crf"):
        EncodeOptions(codec=codec, crf=crf)


@pytest.mark.parametrize(
    "wrong",
    [
        {"codec": "vp8"},
        {"preset": "turbo"},
        {"codec": "av1", "preset": "14"},
        {"codec": "auto", "preset": "8"},
        {"encoder": "videotoolbox"},
        {"pix_fmt": "rgb24"},
        {"codec": "av1", "pix_fmt": "yuv444p"},
        {"codec": "vp9", "pix_fmt": "yuv420p10le"},
        {"codec": "vp9", "preset": "6"},
        {"codec": "vp9", "encoder": "qsv"},
        {"num_threads": 0},
    ],
)
def test_unknown_choices_are_refused_with_the_accepted_ones(wrong: dict[str, Any]) -> None:
    with pytest.raises(EncodeError):
        EncodeOptions(**wrong)


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
@pytest.mark.parametrize("color", [HDR10, HLG])
def test_hdr_is_written_with_ten_bits_and_its_own_tags(codec: Any, color: ColorTags) -> None:
    resolved = resolve_encoding(EncodeOptions(codec=codec), video_format(color=color))
    assert resolved.pix_fmt == "yuv420p10le"
    assert resolved.color == color
    assert resolved.chroma_site == "topleft"
    assert bool(resolved.warnings) == (codec == "h264")


def test_h265_does_not_depend_on_the_machine_or_on_earlier_segments() -> None:
    found = settings(resolve_encoding(EncodeOptions(codec="h265", num_threads=3), video_format()))
    assert "pools=3" in found
    assert "open-gop=0" in found


def test_ten_bit_sdr_source_stays_ten_bit_unless_asked() -> None:
    layout = video_format(bit_depth=10)
    assert resolve_encoding(EncodeOptions(codec="h265"), layout).pix_fmt == "yuv420p10le"
    narrow = resolve_encoding(EncodeOptions(codec="h265", pix_fmt="yuv420p"), layout)
    assert narrow.pix_fmt == "yuv420p"
    assert "10-bit source" in narrow.warnings[0]


def test_eight_bits_for_an_hdr_source_are_refused() -> None:
    with pytest.raises(EncodeError, match="yuv420p10le"):
        resolve_encoding(EncodeOptions(codec="h265", pix_fmt="yuv420p"), video_format(color=HDR10))


@pytest.mark.parametrize("pix_fmt", [None, "yuv444p"])
@pytest.mark.parametrize("color", [HDR10, HLG])
def test_vp9_of_an_hdr_source_is_refused(color: ColorTags, pix_fmt: str | None) -> None:
    with pytest.raises(EncodeError, match=r"vp9 .* 8 bits and the source is HDR; choose av1 or h265"):
        resolve_encoding(EncodeOptions(codec="vp9", pix_fmt=pix_fmt), video_format(color=color, bit_depth=10))


def test_vp9_of_a_deep_source_has_eight_bits_with_a_warning() -> None:
    resolved = resolve_encoding(EncodeOptions(codec="vp9"), video_format(bit_depth=10))
    assert (resolved.pix_fmt, resolved.use_dither) == ("yuv420p", True)
    assert resolved.warnings == (
        "a 10-bit source is written with 8 bits, which are all that VP9 is written with",
    )
    assert resolve_encoding(EncodeOptions(codec="vp9"), video_format()).warnings == ()


@pytest.mark.parametrize(("crf", "written"), [(None, "27"), (33, "33"), (0, "0")])
def test_vp9_has_constant_quality_without_hidden_frames(crf: float | None, written: str) -> None:
    options = resolve_encoding(EncodeOptions(codec="vp9", crf=crf), video_format()).private_options
    assert options | {"crf": written, "b": "0", "auto-alt-ref": "0", "row-mt": "0"} == options
    assert ("lossless" in options) == (crf == 0)


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
def test_sdr_never_gets_hdr_metadata(codec: Any) -> None:
    resolved = resolve_encoding(
        EncodeOptions(codec=codec), video_format(mastering_display=DISPLAY, content_light=LIGHT)
    )
    assert "G(" not in settings(resolved)
    assert "1000,400" not in settings(resolved)
    assert "hdr10" not in settings(resolved)


def test_mastering_display_is_spelled_in_each_encoders_units() -> None:
    layout = video_format(color=HDR10, mastering_display=DISPLAY, content_light=LIGHT)
    integers = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    assert f"master-display={integers}" in settings(resolve_encoding(EncodeOptions(codec="h265"), layout))
    assert f"mastering-display={integers}" in settings(resolve_encoding(EncodeOptions(codec="h264"), layout))
    assert "G(0.265000,0.690000)" in settings(resolve_encoding(EncodeOptions(codec="av1"), layout))


@pytest.mark.parametrize(
    ("tags", "size", "written"),
    [
        (ColorTags(2, 2, 2), (1280, 720), (1, 1, 1)),
        (ColorTags(2, 2, 2), (720, 576), (5, 5, 6)),
        (ColorTags(2, 2, 2), (352, 288), (5, 5, 6)),
        (ColorTags(2, 2, 2), (720, 480), (6, 6, 6)),
        (ColorTags(2, 2, 2), (640, 360), (6, 6, 6)),
        (ColorTags(5, 2, 2), (1440, 1152), (1, 5, 6)),  # enlarged: BT.709's matrix, PAL's primaries
        (ColorTags(6, 6, 6), (1280, 960), (1, 6, 6)),
        (ColorTags(4, 4, 4), (1280, 960), (1, 4, 4)),
        (ColorTags(7, 7, 7), (1920, 1035), (7, 7, 7)),
        (ColorTags(9, 9, 14), (1920, 1080), (9, 9, 14)),
        (ColorTags(0, 1, 13, True), (64, 48), (1, 1, 13)),
        (ColorTags(10, 9, 14), (64, 48), (9, 9, 14)),
        (ColorTags(5, 2, 2), (720, 576), (5, 5, 6)),
        (ColorTags(1, 1, 1, True), (64, 48), (1, 1, 1)),
    ],
)
def test_output_tags_are_complete_and_limited_range(
    tags: ColorTags, size: tuple[int, int], written: tuple[int, int, int]
) -> None:
    color = resolve_encoding(EncodeOptions(), video_format(color=tags, width=size[0], height=size[1])).color
    assert (color.matrix, color.primaries, color.transfer) == written
    assert not color.full_range


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("pix_fmt", "evens"), [("yuv420p", (2, 2)), ("yuv422p", (2, 1)), ("yuv444p", (1, 1))]
)
def test_stored_size_is_rounded_up_to_whole_chroma_samples(
    pix_fmt: str, evens: tuple[int, int], scale: int
) -> None:
    width, height = 321 * scale, 181 * scale
    resolved = resolve_encoding(EncodeOptions(pix_fmt=pix_fmt), video_format(width=width, height=height))
    assert (resolved.width, resolved.height) == (
        -(-width // evens[0]) * evens[0],
        -(-height // evens[1]) * evens[1],
    )
    is_padded = (resolved.width, resolved.height) != (width, height)
    assert any("repeated" in warning for warning in resolved.warnings) == is_padded


@pytest.mark.parametrize(("codec", "side"), [("h265", 14), ("av1", 8)])
def test_pictures_too_small_for_the_encoder_are_refused(codec: Any, side: int) -> None:
    with pytest.raises(EncodeError, match="too small"):
        resolve_encoding(EncodeOptions(codec=codec), video_format(width=side, height=64))


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(60), Fraction(1, 10)])
def test_keyframes_come_every_two_seconds(rate: Fraction) -> None:
    gop_size = resolve_encoding(EncodeOptions(), video_format(rate=rate)).gop_size
    assert gop_size == max(1, round(2 * rate))


def test_keep_matrix_keeps_that_of_standard_definition() -> None:
    layout = video_format(color=ColorTags(5, 5, 6), width=1440, height=1152)
    assert resolve_encoding(EncodeOptions(keep_matrix=True), layout).color == ColorTags(5, 5, 6)
    assert resolve_encoding(EncodeOptions(), layout).color == ColorTags(1, 5, 6)


@pytest.mark.parametrize(
    ("size", "codec", "warning"),
    [
        ((4096, 2304), "h264", None),
        ((2304, 4096), "h264", None),
        ((4098, 2304), "h265", "H.264 above 4096x2304"),
        ((4096, 2306), "h265", "H.264 above 4096x2304"),
        ((2306, 4096), "h265", "H.264 above 4096x2304"),
        ((8192, 4320), "h265", "H.264 above 4096x2304"),
        ((8194, 4320), "av1", "H.265 above 8192x4320"),
        ((4322, 8192), "av1", "H.265 above 8192x4320"),
        ((8706, 16384), "h265", "H.264 above 4096x2304"),  # SVT-AV1 ends at 16384x8704
    ],
)
def test_the_codec_goes_by_what_hardware_plays(
    size: tuple[int, int], codec: str, warning: str | None
) -> None:
    resolved = resolve_encoding(EncodeOptions(), video_format(width=size[0], height=size[1]))
    assert resolved.codec == codec
    assert resolved.codec_tag == ("hvc1" if codec == "h265" else None)
    assert [warning in text for text in resolved.warnings] == ([True] if warning else [])


@pytest.mark.parametrize(
    ("codec", "size", "better"),
    [
        ("h264", (5120, 2880), "h265"),
        ("h264", (10240, 4320), "av1"),
        ("h265", (10240, 4320), "av1"),
        ("vp9", (10240, 4320), "av1"),
    ],
)
def test_a_codec_that_is_named_is_used_with_a_warning(codec: Any, size: tuple[int, int], better: str) -> None:
    resolved = resolve_encoding(EncodeOptions(codec=codec), video_format(width=size[0], height=size[1]))
    assert resolved.codec == codec
    assert len(resolved.warnings) == 1
    assert "plays in no hardware" in resolved.warnings[0]
    assert resolved.warnings[0].endswith(f"{better} plays more widely")


def test_what_av1_cannot_store_stays_h265_at_any_size() -> None:
    layout = video_format(width=10240, height=4320)
    assert resolve_encoding(EncodeOptions(pix_fmt="yuv444p"), layout).codec == "h265"


@pytest.mark.parametrize(
    ("crf", "size", "written"),
    [
        (None, (5120, 2880), "20"),
        (18, (5120, 2880), "20"),
        (18, (10240, 4320), "25"),
        (20.5, (10240, 4320), "28"),
        (51, (5120, 2880), "51"),
        (51, (10240, 4320), "58"),
        (0, (5120, 2880), "0"),
    ],
)
def test_quality_without_a_codec_means_what_it_means_for_h264(
    crf: float | None, size: tuple[int, int], written: str
) -> None:
    resolved = resolve_encoding(EncodeOptions(crf=crf), video_format(width=size[0], height=size[1]))
    assert resolved.private_options["crf"] == written


@pytest.mark.parametrize(
    ("codec", "preset", "written"),
    [("h264", "slow", "slow"), ("h265", "slow", "slow"), ("av1", "slow", "5"), ("av1", "3", "3")],
)
def test_presets_have_x264s_names_everywhere(codec: Any, preset: str, written: str) -> None:
    resolved = resolve_encoding(EncodeOptions(codec=codec, preset=preset), video_format())
    assert resolved.private_options["preset"] == written


@pytest.mark.parametrize(("codec", "option"), [("av1", "preset"), ("vp9", "cpu-used")])
def test_slower_presets_are_slower_where_they_are_numbers(codec: Any, option: str) -> None:
    chosen = [EncodeOptions(codec=codec, preset=name) for name in PRESETS]
    numbers = [int(resolve_encoding(each, video_format()).private_options[option]) for each in chosen]
    assert numbers == sorted(numbers, reverse=True)


def test_only_eight_bits_are_dithered() -> None:
    assert resolve_encoding(EncodeOptions(), video_format()).use_dither
    assert not resolve_encoding(EncodeOptions(), video_format(bit_depth=10)).use_dither
