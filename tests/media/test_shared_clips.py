"""Real and odd files from elsewhere: each gives its frames or its own error."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from media import MediaError, UnreadableInputError, VideoReader, probe
from media.errors import NoFramesError

pytestmark = pytest.mark.needs_shared


class Expected(NamedTuple):
    """What is known of a file from its provenance and from counting decoded frames with ffprobe."""

    num_frames: int
    width: int
    height: int
    warning: str | None = None


NATURAL = {
    "asl_book_640x480_full_range.mkv": Expected(109, 640, 480),
    "bbb_176x144_h263.3gp": Expected(15, 176, 144),
    "cars_768x432_aac.mp4": Expected(38, 768, 432),  # 52 packets, an edit list hides 14
    "dove_001.mp4": Expected(100, 256, 256),
    "dove_002.mp4": Expected(32, 318, 180),
    "dove_003.mp4": Expected(50, 256, 128),
    "dove_004.mp4": Expected(50, 256, 128),
    "dove_005.mp4": Expected(100, 320, 240),
    "dove_006.mp4": Expected(100, 320, 240),
    "dove_007.mp4": Expected(33, 316, 178),
    "friday_640x480_aac.mp4": Expected(185, 640, 480),
    "kingscross_320x240_full_range_60fps.mp4": Expected(60, 320, 240),
    "nasa_13013_320x180.mp4": Expected(390, 480, 270, "2 video streams"),
}
AWKWARD = {
    "anamorphic_sar64x45_800x640.mp4": Expected(120, 800, 640),
    "bt601_360x240.mp4": Expected(30, 360, 240),
    "bt709_full_range_testsrc.mp4": Expected(30, 1280, 720),
    "cea608_captions_aac.ts": Expected(58, 640, 360),
    "corrupt_invalid_nalu.mp4": Expected(29, 1080, 720, "1 damaged"),
    "corrupt_mdat_too_long.mp4": Expected(30, 1080, 720),
    "edit_list_positive_shift.mp4": Expected(270, 1920, 1080),
    "empty_second_video_track.mp4": Expected(30, 1080, 720),
    "fragmented_bogus_duration.mp4": Expected(30, 1080, 720),
    "h264_aac.flv": Expected(30, 1080, 720),
    "h264_ac3.mkv": Expected(30, 1080, 720),
    "hevc_sar2740x2739.ts": Expected(16, 914, 686),
    "hlg_1080p_9frames.mp4": Expected(9, 1920, 1080),
    "odd_dimensions_161x121.webm": Expected(30, 161, 121),
    "pq_av1_1080p60_mastering_metadata.mp4": Expected(60, 1920, 1080),
    "pq_av1_720x1280_aac.mp4": Expected(127, 720, 1280),
    "rotate90_hlg_1080p_9frames.mp4": Expected(9, 1920, 1080, "Dolby Vision"),
    "rotate_and_mirror_matrix.mp4": Expected(30, 1080, 720),
    "srgb_transfer_tag.mp4": Expected(30, 1080, 720),
    "subs_pgs_bad_timestamps.mkv": Expected(30, 1080, 720, "subtitles that are pictures"),
    "subs_srt_ac3.mkv": Expected(30, 1080, 720),
    "unsupported_vvc.mp4": Expected(120, 320, 180),  # supported since FFmpeg 7.1
    "vfr_7frames_mixed_tags.mp4": Expected(7, 1280, 720),
    "vp9_vorbis_960x540_60fps.webm": Expected(60, 960, 540),
}
SYNTHETIC = {
    "alpha_prores4444.mov": Expected(3, 160, 120, "transparency"),
    "alpha_vp9.webm": Expected(30, 160, 120, "transparency"),
    "animated.gif": Expected(10, 160, 120),
    "audio_longer_than_video.mp4": Expected(30, 640, 480),
    "bitflips.ts": Expected(61, 640, 480, "1 damaged"),
    "bt601_untagged_480p.mp4": Expected(30, 640, 480),
    "flac_audio.mkv": Expected(62, 640, 480),
    "gray_ffv1.mkv": Expected(6, 320, 240),
    "interlaced_bff_dv_pal.avi": Expected(8, 720, 576),
    "interlaced_tff_1080i_h264_anamorphic_mp2.ts": Expected(36, 1440, 1080),
    "mjpeg_yuvj422p.avi": Expected(15, 320, 240),
    "mpeg4_mp3.avi": Expected(60, 352, 288),
    "odd_yuv444_333x187.mp4": Expected(60, 333, 187),
    "one_frame.mp4": Expected(1, 640, 480),
    "opus_two_tracks_srt.mkv": Expected(62, 640, 480),
    "pcm_s24le_audio.mov": Expected(32, 640, 480),
    "resolution_change.ts": Expected(60, 480, 360, "picture size changes"),
    "rgb_h264.mkv": Expected(18, 320, 240),
    "starts_without_keyframe.ts": Expected(57, 640, 480),
    "theora_vorbis.ogv": Expected(60, 320, 240),
    "tiny_16x16.mp4": Expected(30, 16, 16),
    "truncated_faststart.mp4": Expected(56, 640, 480, "truncated"),
    "vfr_half_dropped.mkv": Expected(40, 640, 480),
    "wmv2_wma.wmv": Expected(60, 320, 240),
    "yuv444p_mp3_in_mp4.mp4": Expected(45, 640, 480),
}
ERRORS: dict[str, type[MediaError]] = {
    "awkward/corrupt_vp9_bitstream.webm": NoFramesError,
    "synthetic/truncated_no_moov.mp4": UnreadableInputError,
}
ALL = {
    f"{folder}/{name}": expected
    for folder, files in (("natural", NATURAL), ("awkward", AWKWARD), ("synthetic", SYNTHETIC))
    for name, expected in files.items()
}
# Larger files take seconds to convert on one core: of those only the first frames are read.
_MAX_PIXELS = 12_000_000


def test_every_shared_clip_is_expected_here(shared_dir: Path) -> None:
    clips = shared_dir / "clips"
    found = {
        str(path.relative_to(clips))
        for folder in ("natural", "awkward", "synthetic")
        for path in (clips / folder).iterdir()
    }
    assert found == ALL.keys() | ERRORS.keys()


@pytest.mark.parametrize("name", ALL)
def test_clip_is_read_whole(shared_dir: Path, name: str) -> None:
    expected = ALL[name]
    info = probe(shared_dir / "clips" / name)
    assert (info.video.width, info.video.height) == (expected.width, expected.height)
    num_wanted = expected.num_frames
    if expected.warning is None:  # a warning may come at the very end
        num_wanted = min(num_wanted, max(3, _MAX_PIXELS // (expected.width * expected.height)))
    frames: list[tuple[int, int]] = []
    with VideoReader(info) as reader:
        for frame in reader.frames():
            assert frame.image.shape == (3, expected.height, expected.width)
            frames.append((frame.pts, frame.duration))
            if len(frames) == num_wanted < expected.num_frames:
                break
        warnings = [*info.warnings, *reader.warnings]
    assert len(frames) == num_wanted
    assert all(after > before for (before, _), (after, _) in pairwise(frames))
    assert all(duration > 0 for _, duration in frames)
    if expected.warning is None:
        assert warnings == []
    else:
        assert any(expected.warning in warning for warning in warnings)


@pytest.mark.parametrize("name", ERRORS)
def test_unreadable_clip_has_its_own_error(shared_dir: Path, name: str) -> None:
    with pytest.raises(ERRORS[name]):
        probe(shared_dir / "clips" / name)


@pytest.mark.parametrize(
    "name",
    [
        "natural/bbb_176x144_h263.3gp",
        "natural/cars_768x432_aac.mp4",
        "natural/dove_002.mp4",
        "natural/kingscross_320x240_full_range_60fps.mp4",
        "awkward/odd_dimensions_161x121.webm",
        "awkward/unsupported_vvc.mp4",
        "synthetic/interlaced_bff_dv_pal.avi",
        "synthetic/mpeg4_mp3.avi",
        "synthetic/resolution_change.ts",
        "synthetic/theora_vorbis.ogv",
        "synthetic/vfr_half_dropped.mkv",
        "synthetic/wmv2_wma.wmv",
    ],
)
def test_clip_resumes_exactly(shared_dir: Path, name: str) -> None:
    with VideoReader(probe(shared_dir / "clips" / name)) as reader:
        full = list(reader.frames())
        for number in (len(full) // 2, len(full) - 1):
            part = list(reader.frames(from_pts=full[number].pts))
            assert [(f.pts, f.duration) for f in part] == [(f.pts, f.duration) for f in full[number:]]
            assert all(torch.equal(a.image, b.image) for a, b in zip(part, full[number:], strict=True))
