"""Whole runs, and their segments made one by one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from media import Entry, Frame, VideoReader, join_segments, probe
from pipelines.model import Model
from pipelines.planning.plan import ChunkPlan
from tests.workers.made import StandIn, video_packets
from workers.run.decisions import DecidedRun, decide_run, keeps_alpha
from workers.run.folder import WorkFolder
from workers.run.options import UpscaleOptions
from workers.run.record import SegmentRecord, load_record
from workers.run.upscaler import upscale_file
from workers.segments.making import (
    MadeSegment,
    make_segment,
)
from workers.segments.planning import SegmentPlan, plan_source


class ChunkTintModel(StandIn):
    """Enlarges by repetition and tints each chunk by where it begins, so that other chunks give other
    frames."""

    def restore(
        self, clip: Tensor, size: tuple[int, int], plan: ChunkPlan, *, generator: object = None
    ) -> Iterator[Tensor]:
        assert isinstance(generator, torch.Generator)
        tint = 0.02 * (generator.initial_seed() % 13) + 0.01 * (clip.shape[0] % 5)
        for batch in clip.split(3):
            yield torch.nn.functional.interpolate(batch, size=size) * 0.7 + tint


def suffix_of(wanted: UpscaleOptions) -> str:
    """Of the file that holds what was asked for."""
    return ".mov" if wanted.encode.codec == "prores" else ".mp4"


@contextmanager
def opened(source: Path, wanted: UpscaleOptions) -> Iterator[VideoReader]:
    info = probe(source)
    with VideoReader(
        info,
        start_seconds=wanted.start_seconds,
        duration_seconds=wanted.duration_seconds,
        deinterlace=wanted.deinterlace,
        keep_alpha=keeps_alpha(info, wanted),
    ) as reader:
        yield reader


@dataclass
class Whole:
    """What a whole run made: the final file and each segment."""

    path: Path
    segments: list[bytes]
    records: tuple[SegmentRecord, ...]


def run_whole(
    source: Path, folder: Path, model: Model, wanted: UpscaleOptions, monkeypatch: pytest.MonkeyPatch
) -> Whole:
    kept = folder / "kept"

    def keep(work: WorkFolder) -> None:
        shutil.copytree(work.path, kept)
        remove(work)

    remove = WorkFolder.remove
    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "remove", keep)
        upscale_file(source, folder / f"whole{suffix_of(wanted)}", model=model, options=wanted)
    manifest = load_record(kept)
    assert manifest is not None
    return Whole(
        folder / f"whole{suffix_of(wanted)}",
        [path.read_bytes() for path in sorted(kept.glob("segment-*.mp4"))],
        manifest.segments,
    )


def plan_all(source: Path, model: Model, wanted: UpscaleOptions) -> tuple[DecidedRun, list[SegmentPlan]]:
    with opened(source, wanted) as reader:
        decided = decide_run(reader.info, reader, model=model, options=wanted)
        return decided, list(plan_source(reader, decided.plan, options=wanted))


def make(
    source: Path,
    model: Model,
    decided: DecidedRun,
    plan: SegmentPlan,
    destination: Path,
    wanted: UpscaleOptions,
    **arguments: Any,
) -> MadeSegment:
    """As another worker does: with a reader of its own, and the plan from JSON."""
    plan = SegmentPlan.model_validate_json(plan.model_dump_json())
    with opened(source, wanted) as reader:
        return make_segment(reader, model, decided, plan, destination, options=wanted, **arguments)


def check_segments(
    source: Path, folder: Path, model: Model, wanted: UpscaleOptions, patch: pytest.MonkeyPatch
) -> list[SegmentPlan]:
    """Makes all segments, the last one first and the first one twice, and joins them."""
    whole = run_whole(source, folder, model, wanted, patch)
    decided, plans = plan_all(source, model, wanted)
    assert [(plan.num_frames, plan.first_pts, plan.end_pts, plan.next_start) for plan in plans] == [
        (record.num_frames, record.first_pts, record.end_pts, record.resume) for record in whole.records
    ]
    for plan in (plans[0], *reversed(plans)):
        path = folder / f"{plan.index}.mp4"
        made = make(source, model, decided, plan, path, wanted)
        assert path.read_bytes() == whole.segments[plan.index], plan
        assert (made.info.num_frames, made.info.first_pts, made.info.end_pts) == (
            plan.num_frames,
            plan.first_pts,
            plan.end_pts,
        )
    join(decided, plans, folder, wanted)
    assert video_packets(folder / f"joined{suffix_of(wanted)}") == video_packets(whole.path)
    assert (folder / f"joined{suffix_of(wanted)}").read_bytes() == whole.path.read_bytes()
    return plans


def join(decided: DecidedRun, plans: list[SegmentPlan], folder: Path, wanted: UpscaleOptions) -> Path:
    return join_segments(
        [folder / f"{plan.index}.mp4" for plan in plans],
        folder / f"joined{suffix_of(wanted)}",
        source=decided.info,
        start_seconds=wanted.start_seconds,
        duration_seconds=wanted.duration_seconds,
    ).path


class CountingSource:
    """A reader that counts the frames it gives."""

    def __init__(self, reader: VideoReader) -> None:
        self.reader = reader
        self.num_frames = 0

    @property
    def warnings(self) -> list[str]:
        return self.reader.warnings

    def frames(self, *, from_pts: int | None = None, entry: Entry | None = None) -> Iterator[Frame]:
        for frame in self.reader.frames(from_pts=from_pts, entry=entry):
            self.num_frames += 1
            yield frame

    def entry_before(self, pts: int) -> Entry | None:
        return self.reader.entry_before(pts)
