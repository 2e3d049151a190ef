"""The join task: the final file from a job's segments and its source's sound, subtitles and chapters."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs import objects
from jobs.errors import LostLeaseError, StorageError
from jobs.records import FinishedSegment, Job, OutputInfo
from jobs.segment_list import SegmentList
from media import JoinReport, MediaInfo
from media.sandbox import sandboxed_join
from workers.run.findings import MeanFindings
from workers.run.report import REPORT_VERSION
from workers.segments.description import options_from_json
from workers.tasks.attempts import Attempt
from workers.tasks.blueprint import read_description, source_of
from workers.tasks.failures import without_paths
from workers.values import to_json_value

# Copying 100 GB takes some minutes; a disk of a cloud may be a tenth as fast.
_JOIN_SECONDS = 6 * 3600.0


@dataclass(frozen=True)
class Joined:
    """A file, and what it was made of.

    Attributes:
        job: As it was before.
        description: Of the run.
        segments: All.
        source: Of the job.
        report: Of the join.
        result: For the job's record.
        seconds: That it took.
    """

    job: Job
    description: dict[str, Any]
    segments: list[FinishedSegment]
    source: MediaInfo
    report: JoinReport
    result: OutputInfo
    seconds: float

    @property
    def warnings(self) -> list[str]:
        """Of the join."""
        return [without_paths(text) for text in self.report.warnings]


def join(attempt: Attempt) -> None:
    """Joins all segments and completes the job."""
    start = time.monotonic()
    context, job = attempt.context, attempt.job
    assert job.plan is not None
    description = read_description(attempt, job.plan)
    options = options_from_json(description["options"])
    segments = context.store.finished_segments(job.id)
    source = source_of(attempt)
    with attempt.folder() as folder, attempt.cancelling() as cancellation, ExitStack() as stack:
        paths = [
            stack.enter_context(context.storage.local_file(segment.key, work_dir=folder))
            for segment in segments
        ]
        attempt.check()
        output = folder / "output" / f"output.{job.spec.options.container}"
        output.parent.mkdir()  # the only folder that the sandbox writes in
        report = sandboxed_join(
            paths,
            output,
            source=source,
            start_seconds=options.start_seconds,
            duration_seconds=options.duration_seconds,
            timeout=_JOIN_SECONDS,
            sandbox=context.sandbox,
            cancellation=cancellation,
        )
        attempt.check()
        complete(attempt, description, segments, source, report, start=start)


def complete(
    attempt: Attempt,
    description: dict[str, Any],
    segments: list[FinishedSegment],
    source: MediaInfo,
    report: JoinReport,
    *,
    start: float,
) -> None:
    """Stores the file and says that the job is done; removes the file if it may not say so.

    Args:
        attempt: At the join.
        description: Of the run.
        segments: All.
        source: Of the job.
        report: Of the file.
        start: Of the attempt, by `time.monotonic`.
    """
    context, job = attempt.context, attempt.job
    result = _describe(attempt, segments, report)
    joined = Joined(job, description, segments, source, report, result, time.monotonic() - start)
    sound = None if job.streaming is None else job.streaming.sound
    to_be_played = SegmentList(segments=tuple(segments), sound=sound)
    try:
        context.storage.put_file(result.key, report.path, is_movable=True)
        context.storage.put_bytes(result.report_key, json.dumps(make_report(joined), indent=1).encode())
        context.storage.put_bytes(result.segments_key, to_be_played.to_json())
        ttl = context.settings.result_ttl
        context.store.complete(job.id, attempt.token, result, ttl=ttl, warnings=joined.warnings)
    except (LostLeaseError, StorageError):
        for key in (result.key, result.report_key, result.segments_key):
            context.storage.delete(key)
        raise


def _describe(attempt: Attempt, segments: list[FinishedSegment], report: JoinReport) -> OutputInfo:
    plan = attempt.job.plan
    assert plan is not None
    last_preview = segments[-1].preview_key
    return OutputInfo(
        job_id=attempt.job.id,
        container=attempt.job.spec.options.container,
        num_segments=len(segments),
        width=plan.width,
        height=plan.height,
        num_frames=report.num_frames,
        duration_seconds=float(report.duration_seconds),
        size_bytes=report.num_bytes,
        sha256=_sha256(report.path),
        token=objects.short(attempt.token),
        preview_token=None if last_preview is None else objects.token_of(last_preview),
    )


def make_report(joined: Joined) -> dict[str, Any]:
    """What was read, decided, written and warned of, with the names that the command line's report has. No
    places of files on the server."""
    job, description, result = joined.job, joined.description, joined.result
    assert job.plan is not None
    source = to_json_value(joined.source)
    source.pop("path")
    plan = dict(description["plan"])
    plan.pop("request", None)  # repeats the rest of the report
    elapsed = (datetime.now(UTC) - job.started_at).total_seconds() if job.started_at else None
    found = MeanFindings()
    for segment in joined.segments:
        found.add(segment.findings, segment.num_frames)
    return {
        "version": REPORT_VERSION,
        "job_id": job.id,
        "status": "done",
        "source": job.spec.filename,
        "input": source,
        "model": {"name": job.plan.model, **description["decided"]["model's"]},
        "plan": plan,
        "findings": found.means(),
        "encoding": description["decided"]["encoder setting"],
        "options": description["options"],
        "output": {
            "width": result.width,
            "height": result.height,
            "num_frames": result.num_frames,
            "duration_seconds": str(joined.report.duration_seconds),
            "size_bytes": result.size_bytes,
            "sha256": result.sha256,
        },
        "streams": to_json_value(joined.report.streams),
        "num_segments": len(joined.segments),
        "segments": [
            {
                "index": segment.index,
                "num_frames": segment.num_frames,
                "size_bytes": segment.size_bytes,
                "seconds": round(segment.seconds, 3),
            }
            for segment in joined.segments
        ],
        "attempts": job.attempts,
        "seconds": elapsed,
        "join_seconds": round(joined.seconds, 3),
        "warnings": list(dict.fromkeys([*job.warnings, *joined.warnings])),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
