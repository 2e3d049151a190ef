"""Whether an encoder of a graphics processor does what a segment needs, tried in another process: drivers
crash and hang.

The other process is this module, run with the settings as JSON; it ends with 0 where they work.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext

from media._encoders import configure_context
from media.encoding import ResolvedEncoding
from media.info import ColorTags

# Loading a driver and its compilers takes seconds on a busy machine.
_TIMEOUT_SECONDS = 60
_KILL_SECONDS = 5
_NUM_FRAMES = 5
_FORCED_KEYFRAME, _INTRA = 3, 1  # a frame in the middle; PyAV's number for an intra picture


def encoding_works(encoding: ResolvedEncoding, rate: Fraction) -> bool:
    """Whether a few frames of the real size and settings go through an encoder, in order and with the
    keyframes that segments begin with. Each encoding is tried once in the life of the process."""
    values = {**asdict(encoding), "warnings": ()}
    return _succeeds(json.dumps([values, str(rate)], sort_keys=True))


@cache
def _succeeds(argument: str) -> bool:
    root = str(Path(__file__).resolve().parent.parent)
    search_path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, argument],
            env={**os.environ, "PYTHONPATH": search_path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # the words of a driver that is not there
        )
    except OSError:
        return False
    try:
        return process.wait(_TIMEOUT_SECONDS) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # one that hangs inside the kernel outlives even this
            process.wait(_KILL_SECONDS)
        return False


def try_encoding(encoding: ResolvedEncoding, rate: Fraction) -> bool:
    """Encode a few frames in this process. Anything may come of it."""
    context = av.CodecContext.create(encoding.encoder, "w")
    assert isinstance(context, VideoCodecContext)
    configure_context(context, encoding, time_base=1 / rate, rate=rate, sample_aspect_ratio=Fraction(1))
    packets = []
    for number in range(_NUM_FRAMES):
        frame = av.VideoFrame(encoding.width, encoding.height, encoding.encoder_pix_fmt)
        for plane in frame.planes:
            plane.update(bytes([16 * number]) * plane.buffer_size)
        frame.pts, frame.time_base = number, 1 / rate
        frame.pict_type = _INTRA if number == _FORCED_KEYFRAME else 0
        packets += context.encode(frame)
    packets += context.encode(None)
    return [packet.pts for packet in packets] == list(range(_NUM_FRAMES)) and all(
        packets[number].is_keyframe for number in (0, _FORCED_KEYFRAME)
    )


def _main(argument: str) -> int:
    values, rate = json.loads(argument)
    encoding = ResolvedEncoding(**{**values, "color": ColorTags(**values["color"])})
    return 0 if try_encoding(encoding, Fraction(rate)) else 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
