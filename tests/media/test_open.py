"""What is opened and what is refused, and with which words."""

import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from media import (
    InputLimitError,
    InputLimits,
    MediaError,
    NoFramesError,
    NoVideoError,
    UnreadableInputError,
    UnsupportedCodecError,
    VideoReader,
    probe,
)
from tests.media.clips import Clip, flat_picture, moving_pictures, png, remux, write_clip
from tests.media.sources import Sound, make_source

BRIGHT = [flat_picture([200, 128, 128], pix_fmt="yuv420p")] * 3
HOSTILE_NAMES = [
    "-i",
    "concat:a.mp4|b.mp4",
    "http:",
    "file:a.mp4",
    "a%03d.mp4",
    "pipe:0",
    "data:video;base64,AAAA",
    "film\nname.mp4",
    "name with spaces, ünïcode ファイル.mp4",
    "*.mp4",
    "no-extension",
]


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A film that no other file may pull in."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return write_clip(folder / "canary.mp4", BRIGHT)


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    folder = tmp_path / "upload"
    folder.mkdir()
    return folder


class TestNames:
    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_a_name_is_only_a_name(self, upload: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        write_clip(upload / "plain.mp4", moving_pictures(3)).rename(upload / name)
        monkeypatch.chdir(upload)
        with VideoReader(probe(name)) as reader:
            assert len(list(reader.frames())) == 3

    @pytest.mark.parametrize("name", ["concat:plain.mp4", "file:plain.mp4", "http://localhost/plain.mp4"])
    def test_protocols_in_names_are_not_followed(
        self, upload: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        write_clip(upload / "plain.mp4", BRIGHT)
        monkeypatch.chdir(upload)
        with pytest.raises(UnreadableInputError, match="no such file"):
            probe(name)

    def test_patterns_are_not_expanded(self, upload: Path) -> None:
        picture = png(8, 8, "rgb24", [np.full((8, 24), 255, np.uint8)])
        (upload / "a001.png").write_bytes(picture)
        dark = png(8, 8, "rgb24", [np.zeros((8, 24), np.uint8)])
        (upload / "a%03d.png").write_bytes(dark)
        with pytest.raises(UnreadableInputError, match="rename it"):
            probe(upload / "a%03d.png")


class TestAttacks:
    """Files that name other files or URLs: each must be refused, and nothing else may be read."""

    @pytest.mark.parametrize("name", ["input", "input.mp4", "input.m3u8"])
    @pytest.mark.parametrize(
        "kind", ["hls-absolute", "hls-relative", "concat", "dash", "sdp", "mov-reference"]
    )
    def test_playlists_are_refused(self, upload: Path, canary: Path, kind: str, name: str) -> None:
        playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
        text = {
            "hls-absolute": playlist.format(canary.as_uri()),
            "hls-relative": playlist.format("../elsewhere/canary.mp4"),
            "concat": "ffconcat version 1.0\nfile canary.mp4\n",
            "dash": f'<?xml version="1.0"?><MPD><Period><BaseURL>{canary.as_uri()}</BaseURL></Period></MPD>',
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
            "mov-reference": f"RTSPtext\nRef1={canary.as_uri()}\n",
        }[kind]
        (upload / "canary.mp4").write_bytes(canary.read_bytes())
        (upload / name).write_text(text)
        with pytest.raises(UnreadableInputError, match="accepted are MP4"):
            probe(upload / name)

    def test_no_request_leaves_the_machine(self, upload: Path, web_server: tuple[str, list[str]]) -> None:
        address, requests = web_server
        for name in ("a.m3u8", "a.mp4"):
            (upload / name).write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}/x.ts\n")
            with pytest.raises(UnreadableInputError):
                probe(upload / name)
        assert requests == []


@pytest.fixture
def web_server() -> Iterator[tuple[str, list[str]]]:
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()
        thread.join()


def error_of(path: Path, limits: InputLimits | None = None) -> MediaError:
    with pytest.raises(MediaError) as caught:
        probe(path, limits=limits or InputLimits())
    assert path.name in str(caught.value)
    return caught.value


class TestRefusals:
    def test_missing_file(self, tmp_path: Path) -> None:
        error = error_of(tmp_path / "nothing.mp4")
        assert isinstance(error, UnreadableInputError)
        assert "no such file" in str(error)

    def test_folder(self, tmp_path: Path) -> None:
        assert "not a regular file" in str(error_of(tmp_path))

    def test_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").touch()
        assert "empty (0 bytes)" in str(error_of(tmp_path / "a.mp4"))

    @pytest.mark.parametrize("content", [b"\x00", b"just some text\n" * 200, b"PK\x03\x04"])
    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a"])
    def test_what_is_not_media(self, tmp_path: Path, name: str, content: bytes) -> None:
        path = tmp_path / name
        if content.startswith(b"PK"):
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a.txt", "text")
        else:
            path.write_bytes(content)
        error = error_of(path)
        assert isinstance(error, UnreadableInputError)
        assert "accepted are MP4" in str(error)

    def test_mp4_without_its_index(self, tmp_path: Path) -> None:
        whole = write_clip(tmp_path / "a.mp4", moving_pictures(10)).read_bytes()
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(whole[: whole.index(b"moov") - 4])
        error = error_of(cut)
        assert isinstance(error, UnreadableInputError)
        assert "moov" in str(error)
        cut.write_bytes(whole[:-600])
        assert "cut off" in str(error_of(cut))

    def test_sound_without_pictures(self, tmp_path: Path) -> None:
        path = tmp_path / "a.m4a"
        with av.open(str(path), "w", format="mp4") as output:
            stream = output.add_stream("aac", rate=48_000, layout="mono")
            for number in range(10):
                frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
                frame.planes[0].update(bytes(frame.planes[0].buffer_size))
                frame.sample_rate, frame.pts = 48_000, number * 1024
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        error = error_of(path)
        assert isinstance(error, NoVideoError)
        assert "only audio" in str(error)

    def test_sound_with_a_cover_picture(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mp3"
        with av.open(str(path), "w") as output:
            sound = output.add_stream("mp3", rate=48_000, layout="mono")
            cover = output.add_stream("png", rate=25)
            cover.width = cover.height = 16
            cover.pix_fmt = "rgb24"
            cover.disposition = 1024
            output.mux(cover.encode(av.VideoFrame(16, 16, "rgb24")))
            output.mux(cover.encode(None))
            for number in range(10):
                frame = av.AudioFrame(format="fltp", layout="mono", samples=1152)
                frame.planes[0].update(bytes(frame.planes[0].buffer_size))
                frame.sample_rate, frame.pts = 48_000, number * 1152
                output.mux(sound.encode(frame))
            output.mux(sound.encode(None))
        error = error_of(path)
        assert isinstance(error, NoVideoError)
        assert "cover" in str(error)

    def test_video_without_frames(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mp4"
        with av.open(str(path), "w", options={"movflags": "empty_moov"}) as output:
            stream = output.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            output.start_encoding()
        error = error_of(path)
        assert isinstance(error, NoFramesError)
        assert error.code == "no_frames"

    def test_codec_without_a_decoder(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_pictures(3))
        path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1").replace(b"avcC", b"zzzC"))
        error = error_of(path)
        assert isinstance(error, UnsupportedCodecError)
        assert "convert it to" in str(error)

    def test_pictures_without_a_decodable_packet(self, tmp_path: Path) -> None:
        good = write_clip(tmp_path / "good.webm", moving_pictures(5), Clip(codec="libvpx-vp9"))

        def spoil(packet: av.Packet, number: int) -> bool:
            packet.update(b"\xff" * packet.size)
            return True

        error = error_of(remux(good, tmp_path / "bad.webm", change=spoil))
        assert isinstance(error, NoFramesError)
        assert "5 damaged" in str(error)


class TestLimits:
    @pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv", "a.h264"])
    def test_too_many_pixels_are_refused_before_decoding(self, tmp_path: Path, name: str) -> None:
        path = write_clip(tmp_path / name, moving_pictures(1, width=128), Clip(width=128))
        probe(path, limits=InputLimits(max_pixels=128 * 48))
        error = error_of(path, InputLimits(max_pixels=128 * 48 - 1))
        assert isinstance(error, InputLimitError)

    @pytest.mark.parametrize("suffix", ["gif", "png"])
    def test_pictures_that_hide_their_size_are_refused(self, tmp_path: Path, suffix: str) -> None:
        planes = [np.zeros((48, 64), np.uint8)]
        path = tmp_path / f"a.{suffix}"
        if suffix == "gif":
            write_clip(path, [planes], Clip(codec="gif", pix_fmt="gray"))
        else:
            path.write_bytes(png(64, 48, "gray", planes))
        probe(path, limits=InputLimits(max_pixels=64 * 48 * 8))
        assert isinstance(error_of(path, InputLimits(max_pixels=1000)), InputLimitError)

    def test_a_stated_duration_beyond_the_limit_is_refused(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_pictures(50))
        error = error_of(path, InputLimits(max_seconds=1.9))
        assert isinstance(error, InputLimitError)
        assert "2 s" in str(error)

    def test_too_many_streams_are_refused(self, tmp_path: Path) -> None:
        path = make_source(tmp_path / "a.mkv", seconds=0.2, sounds=[Sound("aac"), Sound("aac")])
        assert isinstance(error_of(path, InputLimits(max_streams=2)), InputLimitError)

    @pytest.mark.parametrize("field", ["max_pixels", "max_seconds", "max_streams"])
    def test_limits_must_be_positive(self, field: str) -> None:
        with pytest.raises(ValueError, match=field):
            InputLimits(**{field: 0})
