"""Upscaling one video file: probe, plan, then reader, model and writer at the same time, then join.

    VideoReader -> Channel -> Restorer (this thread) -> Channel -> SegmentSink -> join_segments

Nothing holds the whole clip: the channels are short, a chunk is the most that waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from media import MediaInfo
from pipelines.model import Model
from pipelines.planning.kinds import plan_from_json, plan_to_json
from workers.errors import ResumeMismatchError
from workers.run.access import IN_THIS_PROCESS, MediaAccess, SourceReader
from workers.run.decisions import (
    DecidedRun,
    decide_run,
    expected_warnings,
    keeps_alpha,
    queued_frames,
    segment_ticks,
    source_warnings,
    with_encoder,
)
from workers.run.disk import check_room
from workers.run.folder import WorkFolder
from workers.run.options import Existing, UpscaleOptions
from workers.run.outputs import check_codec, check_destination, file_sha256, is_kept, join_run
from workers.run.progress import Progress, ProgressCallback
from workers.run.reading import SourceFrame, read_frames
from workers.run.record import InputIdentity, RunRecord
from workers.run.report import UpscaleReport, reported
from workers.run.restoring import Restorer, restore_settings
from workers.run.stages import run_stages
from workers.run.threads import Channel
from workers.run.timing import StageClock
from workers.run.writing import ComparisonRequest, FinishedFrame, SegmentEnd, SegmentSink
from workers.values import to_json_value


def upscale_file(
    source: Path,
    destination: Path,
    *,
    model: Model,
    options: UpscaleOptions,
    existing: Existing = "refuse",
    use_sha256: bool = False,
    on_progress: ProgressCallback | None = None,
    report: UpscaleReport | None = None,
    clock: StageClock | None = None,
    access: MediaAccess = IN_THIS_PROCESS,
) -> UpscaleReport:
    """Upscales a video file to an MP4.

    Whatever ends the run (an error, Ctrl-C, a kill), finished segments stay in `<destination>.dovetail`, and
    a run with `existing="resume"` and the same options gives the video that an uninterrupted one would have
    given.

    Args:
        source: The input.
        destination: The output.
        model: From `load_model`.
        options: What to make of it.
        existing: What to do where the output, or an unfinished run for it, exists. "resume" keeps a finished
            output.
        use_sha256: Whether the report has a digest of the output.
        on_progress: Told how far the run is.
        report: Filled in; a new one if None. It also tells how far a run came that raises.
        clock: Counts the time of the stages; a new one if None.
        access: How files are probed, read and joined.

    Raises:
        MediaError: If the input cannot be read or the output cannot be encoded.
        PipelineError: If the model cannot do it, or memory does not suffice.
        UpscaleError: If the output exists, does not fit the disk, or a run cannot be continued.
    """
    report = report or UpscaleReport(source=source, destination=destination)
    with reported(report, model.device):
        _Run(
            source,
            destination,
            model=model,
            options=options,
            existing=existing,
            on_progress=on_progress or (lambda _: None),
            report=report,
            clock=clock or StageClock(),
            access=access,
        ).run()
        if use_sha256 and report.output is not None and report.output.path.is_file():
            report.output = replace(report.output, sha256=file_sha256(report.output.path))
    _add_speed(report)
    return report


class _Run:
    """One call of `upscale_file`."""

    def __init__(
        self,
        source: Path,
        destination: Path,
        *,
        model: Model,
        options: UpscaleOptions,
        existing: Existing,
        on_progress: ProgressCallback,
        report: UpscaleReport,
        clock: StageClock,
        access: MediaAccess,
    ) -> None:
        self.source, self.destination = source, destination
        self.model, self.options, self.existing = model, options, existing
        self.on_progress, self.report = on_progress, report
        self.clock, self.access = clock, access

    def run(self) -> None:
        check_destination(self.destination, self.options, self.existing)
        if is_kept(self.destination, self.existing):
            self.report.status = "kept"
            return
        self.on_progress(Progress("planning"))
        if self.model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.model.device)
        identity = self._identify()
        info = self.access.probe(
            self.source, video_stream=self.options.video_stream, keep_gaps=self.options.keep_gaps
        )
        info = replace(info, warnings=source_warnings(info, self.options))
        self.report.input = info
        self.report.warn(info.warnings)
        with self._open_reader(info) as reader:
            decided = decide_run(info, reader, model=self.model, options=self.options)
            check_codec(self.destination, decided.encoding.codec, self.options)
            self.report.warn(expected_warnings(decided, self.destination))
            with WorkFolder(self.destination, existing=self.existing) as work:
                self.report.warn(work.warnings)
                try:
                    self._work(work, decided, identity, reader)
                except BaseException as error:
                    self._keep_or_remove(work, error)
                    raise
        self.report.status = "done"

    def _identify(self) -> InputIdentity:
        try:
            return InputIdentity.of(self.source)
        except OSError:
            self.access.probe(self.source)  # which explains what is wrong with it
            raise

    def _work(
        self, work: WorkFolder, decided: DecidedRun, identity: InputIdentity, reader: SourceReader
    ) -> None:
        if work.record is not None and self.options.encode.encoder == "auto":
            decided = with_encoder(decided, work.record.encoding["encoder"])
        record = self._begin_record(work, decided, identity)
        decided = replace(decided, plan=plan_from_json(record.plan))
        self._describe(decided, record)
        if not record.is_complete:
            record = self._make_segments(work, decided, record, reader)
        self._join(work, decided, record)
        work.remove()

    def _keep_or_remove(self, work: WorkFolder, error: BaseException) -> None:
        """Keeps what a failed run has finished, and says so in a note on the error."""
        if not work.num_segments:
            work.remove()
        elif not isinstance(error, ResumeMismatchError):
            error.add_note(
                f"{work.num_segments} finished segments are kept in {work.path}; the same command with "
                "--resume continues after them"
            )

    def _open_reader(self, info: MediaInfo) -> SourceReader:
        options = self.options
        return self.access.open_reader(
            info,
            start_seconds=options.start_seconds,
            duration_seconds=options.duration_seconds,
            deinterlace=options.deinterlace,
            keep_alpha=keeps_alpha(info, options),
        )

    def _begin_record(self, work: WorkFolder, decided: DecidedRun, identity: InputIdentity) -> RunRecord:
        """The record of this run, or of the one to be continued.

        Raises:
            ResumeMismatchError: If that one was another one's.
            DiskFullError: If there is no room.
        """
        mine = RunRecord(
            input=identity,
            options=self.options.to_json() | self.model.identity(),
            plan=plan_to_json(decided.plan),
            encoding=to_json_value(decided.encoding),
        )
        earlier = work.record
        if earlier is not None:
            differences = earlier.differences(mine)
            if differences:
                raise ResumeMismatchError(work.path, differences)
            return earlier
        if decided.num_frames is not None:
            num_pixels = decided.num_frames * decided.encoding.width * decided.encoding.height
            warning = check_room(self.destination.parent, num_pixels=num_pixels)
            self.report.warn([warning] if warning else [])
        mine.save(work.path)
        return mine

    def _describe(self, decided: DecidedRun, record: RunRecord) -> None:
        report, model = self.report, self.model
        report.model = {"name": model.name, "licence": model.card.licence, **model.identity()}
        report.plan, report.encoding, report.options = decided.plan, decided.encoding, self.options.to_json()
        report.num_resumed_frames = record.num_frames

    def _make_segments(
        self, work: WorkFolder, decided: DecidedRun, record: RunRecord, reader: SourceReader
    ) -> RunRecord:
        """Reads, restores and writes at the same time.

        Returns:
            The record with all segments.
        """
        resume = record.segments[-1].resume if record.segments else None
        finished: Channel[FinishedFrame | SegmentEnd] = Channel(queued_frames(decided, self.model.device))
        num_resumed = record.num_frames
        progress = Progress("upscaling", num_resumed, decided.num_frames, num_resumed)
        self.on_progress(progress)

        def count_frame() -> None:
            nonlocal progress
            progress = replace(progress, num_done=progress.num_done + 1)
            self.on_progress(progress)

        sink = SegmentSink(
            work,
            record,
            video_format=decided.video_format,
            encode=decided.encode,
            comparison=ComparisonRequest.of(self.options, decided),
            clock=self.clock,
            on_frame=count_frame,
        )
        settings = restore_settings(
            decided,
            self.options,
            segment_ticks=segment_ticks(reader, self.options),
            keep_source=self.options.use_compare_video or self.options.use_compare_image,
        )
        restorer = Restorer(self.model, settings, finished.put, clock=self.clock, resume=resume)

        def read() -> Iterator[SourceFrame]:
            return read_frames(reader, resume=resume, detect_cuts=self.options.detect_cuts, clock=self.clock)

        try:
            run_stages(
                restorer,
                finished,
                read=read,
                write=sink.run,
                model=self.model,
                clock=self.clock,
            )
        finally:
            self.report.num_cuts, self.report.findings = restorer.num_cuts, restorer.findings
            self.report.stage_seconds = self.clock.seconds
            self.report.warn((*reader.warnings, *restorer.warnings, *sink.warnings))
            self.report.num_segments = len(sink.record.segments)
        return sink.record

    def _join(self, work: WorkFolder, decided: DecidedRun, record: RunRecord) -> None:
        """Makes the final files."""
        report, num_frames = self.report, record.num_frames
        self.on_progress(Progress("joining", num_frames, num_frames, report.num_resumed_frames))
        with self.clock.measure("join"):
            made = join_run(
                work, decided, record, self.destination, options=self.options, join=self.access.join
            )
        report.warn(made.joined.warnings)
        report.streams, report.output = made.joined.streams, made.output
        report.num_segments = len(record.segments)
        report.stage_seconds = self.clock.seconds


def _add_speed(report: UpscaleReport) -> None:
    if report.output is not None and report.seconds > 0:
        report.frames_per_second = (report.output.num_frames - report.num_resumed_frames) / report.seconds
