"""A file that is fetched in several attempts: what of it is kept, and what is not believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.errors import StorageFullError
from service.errors import TooLargeError
from service.sources import download as module
from service.sources.download import Download, note_of, remove_download

URL = "https://videos.example.com/clip.mp4"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_SYNC_BYTES", 4)
    return tmp_path / "fetch-1"


def opened(path: Path, url: str = URL) -> Download:
    return Download(path, url, max_bytes=10, check_room=lambda num_bytes: None)


def begins_at(path: Path, url: str = URL) -> int:
    with opened(path, url) as attempt:
        return attempt.num_bytes


def interrupted(path: Path, *, etag: str = '"1"', total: int | None = 10) -> None:
    """An attempt that came as far as six bytes, of which five were noted, before its process was killed."""
    attempt = opened(path)
    attempt.begin(etag=etag, total=total)
    attempt.add(b"01234")
    attempt.add(b"5")
    attempt._file.flush()
    attempt._file.close()


def test_an_attempt_goes_on_behind_what_was_noted(path: Path) -> None:
    interrupted(path)
    with opened(path) as attempt:
        assert (attempt.num_bytes, attempt.etag, attempt.is_complete) == (5, '"1"', False)
        attempt.add(b"56789")
        assert attempt.is_complete
    assert path.read_bytes() == b"0123456789"
    with opened(path) as attempt:
        assert attempt.is_complete


def test_what_has_no_name_at_its_origin_or_comes_from_elsewhere_is_not_continued(path: Path) -> None:
    interrupted(path, etag="")
    assert begins_at(path) == 0
    interrupted(path)
    assert begins_at(path, "https://videos.example.com/other.mp4") == 0
    interrupted(path)
    path.write_bytes(b"012")
    assert begins_at(path) == 0
    interrupted(path)
    note_of(path).write_text("{")
    assert begins_at(path) == 0


def test_an_attempt_that_was_thought_dead_spoils_nothing(path: Path) -> None:
    with opened(path) as old:
        old.begin(etag='"1"', total=10)
        old.add(b"olden")
        with opened(path) as new:
            new.begin(etag='"2"', total=6)
            new.add(b"newer")
        old.add(b"late")
    assert path.read_bytes() == b"newer"
    assert begins_at(path) == 0  # what the late one has noted is not believed


def test_more_than_is_accepted_is_refused_before_and_while_it_comes(path: Path) -> None:
    with opened(path) as attempt:
        with pytest.raises(TooLargeError):
            attempt.begin(etag="", total=11)
        attempt.begin(etag="", total=None)
        attempt.add(b"0123456789")
        with pytest.raises(TooLargeError):
            attempt.add(b"x")
    remove_download(path)
    assert not list(path.parent.iterdir())


def test_a_full_disk_is_said_before_the_source_comes(path: Path) -> None:
    def refuse(num_bytes: int) -> None:
        raise StorageFullError(f"no room for {num_bytes} bytes")

    with (
        Download(path, URL, max_bytes=10, check_room=refuse) as attempt,
        pytest.raises(StorageFullError, match="for 9 bytes"),
    ):
        attempt.begin(etag="", total=9)
