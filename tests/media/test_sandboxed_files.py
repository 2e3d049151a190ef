"""Hostile files and names through the sandbox: refused with a typed error, and nothing else is touched."""

import http.server
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from media import (
    EncodeError,
    InputLimitError,
    InputLimits,
    MediaError,
    NoFramesError,
    SandboxError,
    SegmentMismatchError,
    UnreadableInputError,
    join_segments,
    probe,
)
from media.sandbox import (
    READ_MODULES,
    Sandbox,
    SandboxedReader,
    SandboxLimits,
    sandboxed_join,
    sandboxed_probe,
    shared_sandbox,
)
from tests.media import sandbox_acts as acts
from tests.media.clips import Clip, flat_picture, moving_pictures, png, write_clip
from tests.media.sources import Sound, make_source, write_segment
from tests.media.test_damage import CONTAINERS, mutants
from tests.thorough import sized

WHITE = [flat_picture([235, 128, 128], pix_fmt="yuv420p")] * 3
NUM_MUTANTS_EACH = sized(20, brief=12)  # of six kinds
MOST_SECONDS = 10.0


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(preload=[*READ_MODULES, "tests.media.sandbox_acts"]) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def requests() -> list[str]:
    """Paths that were asked for at `web_server`."""
    return []


@pytest.fixture(scope="module")
def web_server(requests: list[str]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A white film beside the upload that no upload may show."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return write_clip(folder / "canary.mp4", WHITE)


def attacks(canary: Path, address: str) -> dict[str, bytes]:
    """Contents of uploads that point elsewhere."""
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    manifest = (
        '<?xml version="1.0"?>{}<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
        'bandwidth="1000"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )
    entity = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{canary.as_uri()}">]>'
    texts = {
        "hls-file": playlist.format(canary.as_uri()),
        "hls-path": playlist.format(canary),
        "hls-relative": playlist.format("../elsewhere/canary.mp4"),
        "hls-http": playlist.format(f"{address}/canary.mp4"),
        "hls-key": playlist.format(f'#EXT-X-KEY:METHOD=AES-128,URI="{address}/key"\ncanary.mp4'),
        "hls-crypto": playlist.format(f"crypto+{address}/canary.mp4"),
        "hls-subfile": playlist.format(f"subfile,,start,0,end,0,,:{canary}"),
        "concat": "ffconcat version 1.0\nfile canary.mp4\n",
        "concat-absolute": f"ffconcat version 1.0\noption safe 0\nfile {canary}\n",
        "concat-http": f"ffconcat version 1.0\nfile {address}/canary.mp4\n",
        "dash-file": manifest.format("", canary.as_uri()),
        "dash-http": manifest.format("", f"{address}/canary.mp4"),
        "dash-entity": manifest.format(entity, "&x;"),
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        "rtsp-reference": f"RTSPtext\nRef1={address}/canary.mp4\n",
        "asx": f'<asx version="3.0"><entry><ref href="{address}/canary.mp4"/></entry></asx>',
        "tty": "\x1b[2J\x1b[31m" + "text for a terminal\r\n" * 200,
        "lyrics": "[00:01.00]la\n" * 50,
        "ffmetadata": f";FFMETADATA1\ntitle={address}\n",
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{canary.as_uri()}"/></svg>',
    }
    return {name: text.encode() for name, text in texts.items()}


@pytest.mark.parametrize("name", ["input", "input.mp4", "input.m3u8", "input.txt"])
def test_no_upload_shows_another_file_or_asks_the_network(
    tmp_path: Path, sandbox: Sandbox, canary: Path, web_server: str, requests: list[str], name: str
) -> None:
    upload = tmp_path / "upload"
    upload.mkdir()
    (upload / "canary.mp4").write_bytes(canary.read_bytes())
    for content in attacks(canary, web_server).values():
        (upload / name).write_bytes(content)
        with pytest.raises(UnreadableInputError):
            sandboxed_probe(upload / name, sandbox=sandbox)
    assert requests == []
    # The fixture itself is a film, so the refusals above were not for want of one.
    assert sandboxed_probe(upload / "canary.mp4", sandbox=sandbox).video.width == 64


def test_a_film_that_refers_to_another_one_shows_only_itself(
    tmp_path: Path, sandbox: Sandbox, canary: Path
) -> None:
    """An MP4 may name other files as the place of its samples."""
    path = write_clip(tmp_path / "input", moving_pictures(5), Clip(format="mov"))
    data = path.read_bytes()
    itself = b"\0\0\0\x0curl \0\0\0\x01"
    assert itself in data
    elsewhere = canary.as_uri().encode() + b"\0"
    reference = struct.pack(">I4sI", 12 + len(elsewhere), b"url ", 0) + elsewhere
    changed = bytearray(data.replace(itself, reference))
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):  # around it, behind the samples
        at = data.index(box) - 4
        (size,) = struct.unpack_from(">I", changed, at)
        struct.pack_into(">I", changed, at, size + len(reference) - len(itself))
    path.write_bytes(changed)
    try:
        info = sandboxed_probe(path, sandbox=sandbox)
        with SandboxedReader(info, sandbox=sandbox) as reader:
            brightest = max(float(frame.image.mean()) for frame in reader.frames())
    except MediaError:
        return
    assert brightest < 0.9


NAMES = ["-i", "a%03d.png", "concat:a|b", "http:", "pipe:0", "data:video;base64,AAAA", "*.mp4", "a\nb", "ä ö"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_only_a_name(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_clip(tmp_path / "plain.mp4", moving_pictures(3)).rename(tmp_path / name)
    white = png(8, 8, "rgb24", [np.full((8, 24), 255, np.uint8)])
    (tmp_path / "a001.png").write_bytes(white)
    monkeypatch.chdir(tmp_path)  # relative names count from here, wherever the fork server is
    if "%" in name:
        with pytest.raises(UnreadableInputError):  # a film of this name cannot be read, but nor is another
            sandboxed_probe(name, sandbox=sandbox)
    else:
        assert sandboxed_probe(name, sandbox=sandbox).path == tmp_path / name


@pytest.mark.parametrize(
    "name", ["../x", "http://127.0.0.1/x.mp4", "concat:plain.mp4|plain.mp4", "file:plain.mp4", "/dev/zero"]
)
def test_what_is_not_there_is_not_looked_for_elsewhere(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_clip(tmp_path / "plain.mp4", moving_pictures(3))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableInputError, match=r"no such file|not a regular file"):
        sandboxed_probe(name, sandbox=sandbox)


def large_gif(path: Path) -> Path:
    """65535x65535 pixels by its header, one pixel of data."""
    header = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
    image = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00;"
    path.write_bytes(header + image)
    return path


def large_png(path: Path) -> Path:
    """16384x16384 grey pixels in 260 KB."""
    rows = zlib.compress(bytes(16385 * 16384), 1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 16384, 16384, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    return path


def large_h264(path: Path) -> Path:
    """8192x8192 pixels."""
    picture = flat_picture([128, 128, 128], pix_fmt="yuv420p", width=8192, height=8192)
    options = {"preset": "ultrafast", "crf": "51"}
    return write_clip(path, [picture], Clip(width=8192, height=8192, options=options))


@pytest.mark.parametrize(
    ("make", "name"), [(large_gif, "a.gif"), (large_png, "a.png"), (large_h264, "a.mp4")]
)
def test_bombs_are_refused(tmp_path: Path, sandbox: Sandbox, make: object, name: str) -> None:
    assert callable(make)
    path = make(tmp_path / name)
    with pytest.raises(MediaError) as caught:
        sandboxed_probe(path, sandbox=sandbox)
    assert isinstance(caught.value, (InputLimitError, UnreadableInputError, NoFramesError))


def test_a_bomb_within_generous_limits_meets_the_limit_on_memory(tmp_path: Path, sandbox: Sandbox) -> None:
    with pytest.raises(MediaError):
        sandboxed_probe(
            large_png(tmp_path / "a.png"),
            limits=InputLimits(max_pixels=2**40),
            sandbox_limits=SandboxLimits(memory_bytes=128 << 20),
            sandbox=sandbox,
        )


@pytest.mark.parametrize("name", CONTAINERS)
def test_mangled_files_are_read_or_refused(tmp_path: Path, sandbox: Sandbox, name: str) -> None:
    limits = InputLimits(max_pixels=256 * 256)
    whole = write_clip(tmp_path / name, moving_pictures(20), CONTAINERS[name]).read_bytes()
    path = tmp_path / "input"
    num_read = 0
    for mutant in mutants(whole, NUM_MUTANTS_EACH, seed=100 + len(name)):
        path.write_bytes(mutant)
        began = time.monotonic()
        try:
            info = sandboxed_probe(path, limits=limits, sandbox=sandbox, timeout=MOST_SECONDS)
            with SandboxedReader(info, limits=limits, sandbox=sandbox, timeout=MOST_SECONDS) as reader:
                num_read += sum(1 for _ in reader.frames())
        except SandboxError as error:
            pytest.fail(f"the decoder crashed or hung: {error}")
        except MediaError:
            pass
        assert time.monotonic() - began < 2 * MOST_SECONDS
    assert num_read > 0
    path.write_bytes(whole)
    assert sandboxed_probe(path, sandbox=sandbox).video.width == 64


class TestJoin:
    def test_the_file_is_that_of_a_plain_join(self, tmp_path: Path, sandbox: Sandbox) -> None:
        source = make_source(tmp_path / "source.mkv", sounds=[Sound("libopus"), Sound("pcm_s16le")])
        info = sandboxed_probe(source, sandbox=sandbox)
        assert info == probe(source)
        segments = [
            write_segment(tmp_path / "0.mp4", [0, 1, 2]),
            write_segment(tmp_path / "1.mp4", [3, 7]),
        ]
        paths = [segment.path for segment in segments]
        expected = join_segments(paths, tmp_path / "plain.mp4", source=info)
        target = tmp_path / "sandboxed" / "out.mp4"
        target.parent.mkdir()
        report = sandboxed_join(paths, target, source=info, sandbox=sandbox)
        assert target.read_bytes() == (tmp_path / "plain.mp4").read_bytes()
        assert report.streams == expected.streams
        assert report.path == target
        assert [path.name for path in target.parent.iterdir()] == ["out.mp4"]

    def test_errors_arrive_and_nothing_is_left(self, tmp_path: Path, sandbox: Sandbox) -> None:
        info = probe(make_source(tmp_path / "source.mp4", seconds=0.2))
        segment = write_segment(tmp_path / "0.mp4", [0, 1, 2]).path
        folder = tmp_path / "out"
        folder.mkdir()
        with pytest.raises(SegmentMismatchError):
            sandboxed_join([segment, segment], folder / "a.mp4", source=info, sandbox=sandbox)
        small = SandboxLimits(file_bytes=100)
        with pytest.raises(EncodeError, match="File too large"):
            sandboxed_join([segment], folder / "a.mp4", source=info, sandbox_limits=small, sandbox=sandbox)
        with pytest.raises(EncodeError, match="No such file"):
            sandboxed_join([segment], tmp_path / "no" / "a.mp4", source=info, sandbox=sandbox)
        assert list(folder.iterdir()) == []

    def test_what_a_killed_join_wrote_is_removed(
        self, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = probe(make_source(tmp_path / "source.mp4", seconds=0.2))
        folder = tmp_path / "out"
        folder.mkdir()
        monkeypatch.setattr("media.sandbox._calls._join", acts.write_part_and_die)
        with pytest.raises(SandboxError, match="died of signal 6"):
            sandboxed_join([], folder / "a.mp4", source=info, sandbox=sandbox)
        assert list(folder.iterdir()) == []


def test_the_process_cannot_choose_which_file_is_read_next(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_pictures(3))
    monkeypatch.setattr("media.sandbox._calls._probe", acts.probe_and_point_elsewhere)
    assert sandboxed_probe(path, sandbox=sandbox).path == path
    monkeypatch.setattr("media.sandbox._calls._probe", acts.give)
    with pytest.raises(SandboxError, match="nonsense"):
        sandboxed_probe(path, sandbox=sandbox)


def test_the_shared_sandbox_is_one() -> None:
    assert shared_sandbox("probe") is shared_sandbox("probe")
    assert shared_sandbox("probe") is not shared_sandbox("read")


def test_probing_uses_the_shared_sandbox(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_pictures(3))
    assert sandboxed_probe(path) == probe(path)
    shared_sandbox("probe").close()
