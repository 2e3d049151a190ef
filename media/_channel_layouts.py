"""Which loudspeaker each channel of a sound is for: as files say it, and as all that follows knows it.

PyAV 18.1 hands out layouts as shallow copies, and each copy frees the list of channels that a layout of a
free order ("custom" in FFmpeg) points to. The owner frees it too, and the process ends with SIGABRT. So no
layout of a source is read but through here.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.stream import Stream

from media._tracks import decoder_of

_LAYOUT_BY_CHANNELS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_LAYOUTS = (
    *("mono", "stereo", "2.1", "3.0", "3.0(back)", "4.0", "quad", "quad(side)", "3.1", "4.1"),
    *(
        "5.0",
        "5.0(side)",
        "5.1",
        "5.1(side)",
        "6.0",
        "6.0(front)",
        "hexagonal",
        "6.1",
        "6.1(back)",
        "6.1(front)",
    ),
    *("7.0", "7.0(front)", "7.1", "7.1(wide)", "7.1(wide-side)"),
)
_POSITIONS = {name: tuple(channel.name for channel in AudioLayout(name).channels) for name in _LAYOUTS}
_NAME_BY_POSITIONS = {frozenset(positions): name for name, positions in _POSITIONS.items()}


def layout_of(owner: AudioStream | AudioCodecContext | AudioFrame) -> AudioLayout:
    """The channel layout of a sound.

    It is never freed: nothing tells from here whether that would free what its owner frees too, and 50 bytes
    for each frame of sound are some megabytes for a film.
    """
    layout = owner.layout
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))
    return layout


@dataclass(frozen=True)
class Speakers:
    """Channels in an order that encoders and resamplers know.

    Attributes:
        layout: FFmpeg's name of it.
        channels: For each of its channels, which one of the source it is.
    """

    layout: str
    channels: tuple[int, ...]


def speakers_of(layout: AudioLayout) -> Speakers:
    """How to label the channels of a sound, and which to leave out."""
    if not is_free_order(layout):
        return Speakers(layout.name, tuple(range(layout.nb_channels)))
    return plan_speakers([channel.name for channel in layout.channels])


def is_free_order(layout: AudioLayout) -> bool:
    """Whether the channels have no positions, or not in the order that FFmpeg's names stand for."""
    return "channels" in layout.name or layout.name.startswith("ambisonic")


def has_reordered_samples(stream: Stream) -> bool:
    """Whether a stream is plain samples whose channels would be mistaken for each other in a container that
    states no positions, as Matroska; MOV does."""
    context = decoder_of(stream)
    if not isinstance(context, AudioCodecContext) or not context.name.startswith("pcm_"):
        return False
    channels = speakers_of(layout_of(context)).channels
    return channels != tuple(sorted(channels))


def plan_speakers(positions: Sequence[str]) -> Speakers:
    """Brings channels of a free order into one that has a name.

    The first channel of each position is taken, where these make up a layout: the second pair of "L R L R" is
    another mix or language, and channels without a position are single microphones. Else the channels get the
    usual positions for their number.

    Args:
        positions: FFmpeg's abbreviations, such as "FL"; any other text for none.
    """
    if not positions:  # a damaged head; the sound itself will tell
        return Speakers("stereo", ())
    if positions[0] == "AMBI0":  # the first of a sound field is what a single microphone would hear
        return Speakers("mono", (0,))
    first = {position: channel for channel, position in reversed(list(enumerate(positions)))}
    known = {position for position in first if any(position in named for named in _POSITIONS.values())}
    name = _NAME_BY_POSITIONS.get(frozenset(known))
    is_everything = len(known) == len(positions)
    if name is not None and (is_everything or len(known) > 1):
        return Speakers(name, tuple(first[position] for position in _POSITIONS[name]))
    count = max(number for number in _LAYOUT_BY_CHANNELS if number <= len(positions))
    if len(positions) > count:  # so many tracks are no single sound; the mix comes first
        count = 2
    return Speakers(_LAYOUT_BY_CHANNELS[count], tuple(range(count)))
