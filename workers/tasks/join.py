"""The join task: the final file from a job's segments and its source's sound, subtitles and chapters."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs import objects
from jobs.errors import LostLeaseError, StorageError
from jobs.records import FinishedSegment, OutputInfo
from jobs.records import Job as JobRecord
from jobs.segment_list import SegmentList
from media import JoinReport, MediaInfo
from media.sandbox import sandboxed_join
from workers.run.findings import MeanFindings
from workers.run.report import REPORT_VERSION
from workers.segments.description import options_from_json
from workers.tasks.attempts import Attempt
from workers.tasks.blueprint import read_description, source_of
from workers.tasks.context import WorkerContext
from workers.tasks.failures import without_paths
from workers.values import to_json_value

# Copying 100 GB takes some minutes; a disk of a cloud may be a tenth as fast.
_JOIN_SECONDS = 6 * 3600.0


def join(context: WorkerContext, attempt: Attempt, record: JobRecord) -> None:
    """Joins all segments and completes the job."""
    start = time.monotonic()
    assert record.plan is not None
    description = read_description(context, record.plan)
    options = options_from_json(description["options"])
    segments = context.store.finished_segments(record.id)
    info = source_of(context, attempt, record)
    with attempt.folder() as folder, attempt.cancelling() as cancellation, ExitStack() as stack:
        paths = [
            stack.enter_context(context.storage.local_file(segment.key, work_dir=folder))
            for segment in segments
        ]
        attempt.check()
        output = folder / "output" / f"output.{record.spec.options.container}"
        output.parent.mkdir()  # the only folder that the sandbox writes in
        joined = sandboxed_join(
            paths,
            output,
            source=info,
            start_seconds=options.start_seconds,
            duration_seconds=options.duration_seconds,
            timeout=_JOIN_SECONDS,
            sandbox=context.sandbox,
            cancellation=cancellation,
        )
        attempt.check()
        complete(context, attempt, record, description, segments, info, joined, start=start)


def complete(
    context: WorkerContext,
    attempt: Attempt,
    record: JobRecord,
    description: dict[str, Any],
    segments: list[FinishedSegment],
    info: MediaInfo,
    joined: JoinReport,
    *,
    start: float,
) -> None:
    """Stores the file and says that the job is done; removes the file if it may not say so."""
    assert record.plan is not None
    last_preview = segments[-1].preview_key
    result = OutputInfo(
        job_id=record.id,
        container=record.spec.options.container,
        num_segments=len(segments),
        width=record.plan.width,
        height=record.plan.height,
        num_frames=joined.num_frames,
        duration_seconds=float(joined.duration_seconds),
        size_bytes=joined.num_bytes,
        sha256=_sha256(joined.path),
        token=objects.short(attempt.token),
        preview_token=None if last_preview is None else objects.token_of(last_preview),
    )
    warnings = [without_paths(text) for text in joined.warnings]
    report = make_report(
        record,
        description,
        segments,
        info,
        joined,
        result,
        seconds=time.monotonic() - start,
        warnings=warnings,
    )
    sound = None if record.streaming is None else record.streaming.sound
    to_be_played = SegmentList(segments=tuple(segments), sound=sound)
    try:
        context.storage.put_file(result.key, joined.path, is_movable=True)
        context.storage.put_bytes(result.report_key, json.dumps(report, indent=1).encode())
        context.storage.put_bytes(result.segments_key, to_be_played.to_json())
        context.store.complete(
            record.id,
            attempt.token,
            result,
            ttl=context.settings.result_ttl,
            warnings=warnings,
        )
    except (LostLeaseError, StorageError):
        for key in (result.key, result.report_key, result.segments_key):
            context.storage.delete(key)
        raise


def make_report(
    record: JobRecord,
    description: dict[str, Any],
    segments: list[FinishedSegment],
    info: MediaInfo,
    joined: JoinReport,
    result: OutputInfo,
    *,
    seconds: float,
    warnings: list[str],
) -> dict[str, Any]:
    """What was read, decided, written and warned of, with the names that the command line's report has. No
    places of files on the server."""
    assert record.plan is not None
    source = to_json_value(info)
    source.pop("path")
    plan = dict(description["plan"])
    plan.pop("request", None)  # repeats the rest of the report
    elapsed = (datetime.now(UTC) - record.started_at).total_seconds() if record.started_at else None
    found = MeanFindings()
    for segment in segments:
        found.add(segment.findings, segment.num_frames)
    all_warnings = [*record.warnings, *(text for text in warnings if text not in record.warnings)]
    return {
        "version": REPORT_VERSION,
        "job_id": record.id,
        "status": "done",
        "source": record.spec.filename,
        "input": source,
        "model": {"name": record.plan.model, **description["decided"]["model's"]},
        "plan": plan,
        "findings": found.means(),
        "encoding": description["decided"]["encoder setting"],
        "options": description["options"],
        "output": {
            "width": result.width,
            "height": result.height,
            "num_frames": result.num_frames,
            "duration_seconds": str(joined.duration_seconds),
            "size_bytes": result.size_bytes,
            "sha256": result.sha256,
        },
        "streams": to_json_value(joined.streams),
        "num_segments": len(segments),
        "segments": [
            {
                "index": segment.index,
                "num_frames": segment.num_frames,
                "size_bytes": segment.size_bytes,
                "seconds": round(segment.seconds, 3),
            }
            for segment in segments
        ],
        "attempts": record.attempts,
        "seconds": elapsed,
        "join_seconds": round(seconds, 3),
        "warnings": all_warnings,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
