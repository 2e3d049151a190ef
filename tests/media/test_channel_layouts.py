"""Sound whose channels come in an order of their own. PyAV frees such layouts twice, so each file has a
process."""

import multiprocessing
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from media import join_segments, probe
from media._channel_layouts import Speakers, plan_speakers
from media.growing.audio import extract_audio
from tests.media.sources import write_segment

LEFT, RIGHT, CENTRE, LFE, LEFT_SURROUND, RIGHT_SURROUND = 1, 2, 3, 4, 5, 6
REAR_LEFT, REAR_RIGHT, CENTRE_SURROUND = 33, 34, 9
DISCRETE = 1 << 16
RATE = 48_000


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_segment(tmp_path_factory.mktemp("segment") / "0.mp4", range(25)).path


def pitch(channel: int) -> int:
    """Hz, below what encoders take from an LFE channel."""
    return 40 + 10 * channel


def make_labelled(path: Path, labels: list[int], codec: str = "pcm_s16le") -> Path:
    """A second of PCM in a MOV, each channel with its own pitch and one of CoreAudio's channel labels."""
    times = np.arange(RATE) / RATE
    tones = np.stack([0.5 * np.sin(2 * np.pi * pitch(channel) * times) for channel in range(len(labels))])
    layouts = {2: "stereo", 3: "3.0", 4: "4.0", 6: "5.1", 7: "6.1", 8: "7.1"}
    layout = layouts.get(len(labels), "hexadecagonal")
    with av.open(str(path), "w", format="mov") as output:
        video = output.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        sound: Any = output.add_stream(codec, rate=RATE)
        sound.layout = layout
        for number in range(25):
            picture = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 10 * number, np.uint8))
            output.mux(video.encode(picture))
        output.mux(video.encode(None))
        samples = np.ascontiguousarray((tones * 32767).astype(np.int16).T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    _set_labels(path, labels)
    return path


def _set_labels(path: Path, labels: list[int]) -> None:
    """Puts a `chan` box with these labels in place of the one in a MOV whose index is behind the samples."""
    data = bytearray(path.read_bytes())
    start = data.rindex(b"chan") - 4
    (old_size,) = struct.unpack_from(">I", data, start)
    descriptions = b"".join(struct.pack(">II3f", label, 0, 0, 0, 0) for label in labels)
    content = struct.pack(">IIII", 0, 0, 0, len(labels)) + descriptions
    box = struct.pack(">I4s", 8 + len(content), b"chan") + content
    data[start : start + old_size] = box
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        position = data.rindex(name, 0, start) - 4
        _grow(data, position, len(box) - old_size)
    entry = data.rindex(b"stsd", 0, start) + 12  # behind version, flags and the number of entries
    _grow(data, entry, len(box) - old_size)
    path.write_bytes(data)


def _grow(data: bytearray, position: int, size: int) -> None:
    (before,) = struct.unpack_from(">I", data, position)
    struct.pack_into(">I", data, position, before + size)


def use(source: Path, segment: Path, final: Path) -> str:
    """All that reads layouts, in a process that may die of it.

    Returns:
        What became of the sound.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_use, args=(source, segment, final, sender.send), daemon=True)
    process.start()
    sender.close()
    process.join()
    assert process.exitcode == 0
    return str(receiver.recv())


def _use(source: Path, segment: Path, final: Path, tell: Callable[[str], None]) -> None:
    for _ in range(20):
        info = probe(source)
    extract_audio(info, final.with_name("sound.mp4"), start_seconds=None, duration_seconds=None)
    tell(join_segments([segment], final, source=info).streams[1].detail)


def channels_of(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("fltp", stream.layout, stream.rate)
        frames = [part for frame in container.decode(stream) for part in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray() for frame in frames], axis=1)


def channels_heard(path: Path) -> list[int | None]:
    """For each channel of a file, which channel of the source is loudest in it; None where it is silent."""
    samples = channels_of(path)[:, RATE // 4 : RATE // 4 + RATE // 2]
    spectrum = np.abs(np.fft.rfft(samples, axis=1)) / samples.shape[1]
    loudness = [[float(row[pitch(channel) // 2]) for channel in range(16)] for row in spectrum]
    return [int(np.argmax(row)) if max(row) > 0.02 else None for row in loudness]


@pytest.mark.parametrize(
    ("labels", "heard"),
    [
        pytest.param([RIGHT, LEFT], [1, 0], id="right before left"),
        pytest.param([CENTRE, CENTRE], [0, 1], id="two centres"),
        pytest.param([LEFT, RIGHT, LEFT, RIGHT], [0, 1], id="two pairs"),
        pytest.param([LEFT, RIGHT, DISCRETE, DISCRETE + 1], [0, 1], id="a pair and two microphones"),
        pytest.param(
            [LEFT, RIGHT, LEFT_SURROUND, RIGHT_SURROUND, CENTRE, LFE], [0, 1, 4, 5, 2, 3], id="5.1 of film"
        ),
        pytest.param([DISCRETE + number for number in range(16)], [0, 1], id="sixteen microphones"),
    ],
)
def test_channels_go_where_their_labels_say(
    tmp_path: Path, segment: Path, labels: list[int], heard: list[int]
) -> None:
    source, final = make_labelled(tmp_path / "source.mov", labels), tmp_path / "final.mp4"
    detail = use(source, segment, final)
    assert channels_heard(final) == heard
    assert ("left out" in detail) == (len(labels) > len(heard))


@pytest.mark.parametrize(
    "labels",
    [
        [LEFT, RIGHT, CENTRE, LFE, LEFT_SURROUND, RIGHT_SURROUND, CENTRE_SURROUND],
        [CENTRE, LEFT, RIGHT, LEFT_SURROUND, RIGHT_SURROUND, REAR_LEFT, REAR_RIGHT, LFE],
    ],
    ids=["6.1", "7.1"],
)
def test_more_channels_than_players_know_are_mixed(tmp_path: Path, segment: Path, labels: list[int]) -> None:
    source, final = make_labelled(tmp_path / "source.mov", labels), tmp_path / "final.mp4"
    use(source, segment, final)
    heard = channels_heard(final)
    assert len(heard) == 6
    assert heard[:3] == [labels.index(LEFT), labels.index(RIGHT), labels.index(CENTRE)]


def test_mkv_takes_no_samples_in_another_order_than_players_expect(tmp_path: Path, segment: Path) -> None:
    swapped = make_labelled(tmp_path / "swapped.mov", [RIGHT, LEFT])
    plain = make_labelled(tmp_path / "plain.mov", [LEFT, RIGHT])
    for source, action, heard in ((swapped, "aac", [1, 0]), (plain, "pcm_s16le", [0, 1])):
        final = source.with_suffix(".mkv")
        use(source, segment, final)
        with av.open(str(final)) as found:
            assert found.streams.audio[0].codec_context.codec.canonical_name == action
        assert channels_heard(final) == heard


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", ["pcm_two_stereo_pairs.mov", "pcm_two_centres.mov"])
def test_reported_files_are_read(tmp_path: Path, segment: Path, shared_dir: Path, name: str) -> None:
    final = tmp_path / "final.mp4"
    use(shared_dir / "clips" / "reported" / name, segment, final)
    assert (np.abs(channels_of(final)).max(axis=1) > 0.01).tolist() == [True, True]


def test_positions_that_make_up_no_layout_become_the_usual_one() -> None:
    assert plan_speakers([]) == Speakers("stereo", ())
    assert plan_speakers(["FR", "FC"]) == Speakers("stereo", (0, 1))
    assert plan_speakers(["NONE"] * 8) == Speakers("7.1", tuple(range(8)))
    assert plan_speakers(["NONE"] * 12) == Speakers("stereo", (0, 1))
    assert plan_speakers(["AMBI0", "AMBI1", "AMBI2", "AMBI3"]) == Speakers("mono", (0,))
    assert plan_speakers(["FC", "FL", "FR"]) == Speakers("3.0", (1, 2, 0))
