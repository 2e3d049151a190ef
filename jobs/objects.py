"""Names of objects in the storage. Made of our ids only, never of anything a customer sent."""

from __future__ import annotations

from pathlib import PurePath

SWEEPS_KEY = "sweeps"
"""How often what no record names was swept away."""


def short(token: str) -> str:
    """As much of an attempt's token as the names of its objects have."""
    return token[:8]


def token_of(key: str) -> str:
    """The short token of the attempt that has written an object."""
    return PurePath(key).stem.rpartition("-")[2]


def upload_key(upload_id: str) -> str:
    """A finished upload; any number of jobs may read it."""
    return f"uploads/{upload_id}"


def upload_id_of(key: str) -> str | None:
    """The upload whose bytes lie under a key; None if it is another object's."""
    return key.removeprefix("uploads/") if key.startswith("uploads/") else None


def incoming_prefix(upload_id: str) -> str:
    """What has arrived of an unfinished upload, where that is not parts of the object itself."""
    return f"incoming/{upload_id}/"


def job_prefix(job_id: str) -> str:
    """Everything that goes when a job goes."""
    return f"jobs/{job_id}/"


def input_key(job_id: str, token: str = "") -> str:
    """The source. Where several requests may make the same job, each has a token and an object of its own."""
    return f"jobs/{job_id}/input" + (f"-{short(token)}" if token else "")


def source_info_key(job_id: str) -> str:
    """What is known of the source."""
    return f"jobs/{job_id}/source.json"


def segment_key(job_id: str, index: int, token: str, kind: str = "mp4") -> str:
    """A segment; no two attempts write the same object."""
    return f"jobs/{job_id}/segments/{index:06d}-{short(token)}.{kind}"


def preview_key(job_id: str, index: int, token: str) -> str:
    """A before/after picture of a segment's last frame."""
    return f"jobs/{job_id}/previews/{index:06d}-{short(token)}.jpg"


def audio_key(job_id: str, token: str) -> str:
    """The sound for the growing stream."""
    return f"jobs/{job_id}/audio-{short(token)}.mp4"


def sound_index_key(job_id: str, token: str) -> str:
    """Where the fragments of that sound are."""
    return f"jobs/{job_id}/audio-{short(token)}.json"


def description_key(job_id: str, token: str) -> str:
    """What the planner decided, for workers."""
    return f"jobs/{job_id}/run-{short(token)}.json"


def segments_key(job_id: str, token: str) -> str:
    """The list of a completed job's segments."""
    return f"jobs/{job_id}/segments-{short(token)}.json"


def output_key(job_id: str, token: str, container: str = "mp4") -> str:
    """The finished file."""
    return f"jobs/{job_id}/output-{short(token)}.{container}"


def report_key(job_id: str, token: str) -> str:
    """The media report."""
    return f"jobs/{job_id}/report-{short(token)}.json"
