"""A job as its customer lives it: uploaded in small chunks, listened to and played while it is made."""

from __future__ import annotations

import io
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import httpx

from dovetail_client import Dovetail, Job

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Played:
    """A growing video to its end.

    Attributes:
        content: All of it.
        num_cuts: How often it broke off before.
        is_steady: Whether each time began with the bytes of those before.
    """

    content: bytes
    num_cuts: int
    is_steady: bool


def play(url: str, job_id: str) -> Played:
    """Plays a job's growing video, from its beginning whenever it breaks off."""
    before, num_cuts, is_steady = b"", 0, True
    while True:
        content, is_growing, is_whole = bytearray(), True, False
        try:
            with httpx.stream(
                "GET", f"{url}/v1/jobs/{job_id}/stream", timeout=120, trust_env=False, follow_redirects=True
            ) as answer:
                if answer.status_code not in (502, 503):
                    answer.raise_for_status()
                    is_growing = answer.headers.get("Accept-Ranges") == "none"
                    for piece in answer.iter_bytes():
                        content += piece
                    is_whole = True
        except httpx.TransportError:
            num_cuts += 1
        # Of a job that has ended meanwhile it is the finished file.
        if is_growing:
            length = min(len(content), len(before))
            is_steady = is_steady and content[:length] == before[:length]
            before = max(before, bytes(content), key=len)
        if is_whole:
            return Played(bytes(content), num_cuts, is_steady)
        time.sleep(0.2)


def num_frames(content: bytes) -> int:
    """Frames of a video."""
    with av.open(io.BytesIO(content), "r") as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


def segments_told(client: Dovetail, job: Job) -> Counter[int]:
    """How often a job's events tell of each segment, from its first event to its last."""
    told = client.events(job, last_event_id="1-0")
    return Counter(event.detail["index"] for event in told if event.type == "segment")


@dataclass(frozen=True)
class Followed:
    """A job to its end, as a customer sees it.

    Attributes:
        job: At its end.
        told: How often its events told of each segment.
        played: Its growing video.
    """

    job: Job
    told: Counter[int]
    played: Played


def follow(url: str, clip: Path, model: str, folder: Path) -> Followed:
    """Uploads a clip in chunks, listens to and plays what is made of it, and downloads it into a folder."""
    with Dovetail(url, max_retries=60) as client, ThreadPoolExecutor() as threads:
        upload = client.upload(clip, chunk_size=_CHUNK_BYTES)
        job = client.submit(upload, model=model)
        playing = threads.submit(play, url, job.id)
        told = segments_told(client, job)
        job = client.wait(job, timeout=1800)
        client.download(job, folder / f"{job.id}.mp4")  # which compares its digest
        return Followed(job, told, playing.result())
