"""What containers say to cut off the pictures of their video."""

from dataclasses import replace

from media._clean_aperture import read_aperture
from media._matroska import read_tracks
from media.info import Crop, MediaInfo


def with_crop(info: MediaInfo) -> MediaInfo:
    """The info of a video that is cropped where its container says so."""
    video = info.video
    crop = None if video.shapes else _find_crop(info)
    if crop is None:
        return info
    width, height = video.width - crop.left - crop.right, video.height - crop.top - crop.bottom
    if width < 1 or height < 1:  # FFmpeg has read other numbers than these
        return info
    return replace(info, video=replace(video, width=width, height=height, crop=crop))


def _find_crop(info: MediaInfo) -> Crop | None:
    video = info.video
    if "matroska" in info.format_name:
        tracks = read_tracks(info.path)
        return tracks[video.index].crop if video.index < len(tracks) else None
    if "mp4" in info.format_name:
        return read_aperture(info.path, video.index, width=video.width, height=video.height)
    return None
