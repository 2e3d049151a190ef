"""The decisions: every source and scene with all numbers, what became of it and why. A line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.dataset.config import DatasetConfig
from training.dataset.licences import LicenceBook
from training.dataset.selection import PartDecision, PartKey, SourceDecision

DECISIONS_VERSION = 1


def decision_lines(
    decisions: list[SourceDecision],
    config: DatasetConfig,
    licences: LicenceBook,
    clips: Mapping[PartKey, str],
) -> Iterator[str]:
    """The lines of the file: one with the limits, then each source followed by its scenes.

    Args:
        decisions: What became of everything.
        config: The limits.
        licences: What is said of sources.
        clips: Names of the clips.
    """
    yield _line({"kind": "dataset", "version": DECISIONS_VERSION, "limits": config.model_dump(mode="json")})
    for source in decisions:
        yield _line(_source_entry(source, licences))
        for part in source.parts:
            yield _line(_scene_entry(part, clips.get(part.key)))


def _source_entry(source: SourceDecision, licences: LicenceBook) -> dict[str, Any]:
    said = licences.of(Path(source.facts.path))
    entry: dict[str, Any] = {
        "kind": "source",
        "source": source.facts.path,
        "decision": "dropped" if source.reasons else "taken",
        "reasons": [reason.model_dump() for reason in source.reasons],
        "licence": said.licence or None,
        "provenance": said.provenance or None,
        "facts": source.facts.model_dump(mode="json", exclude={"path"}),
    }
    if source.examination is not None:
        entry["num_frames_read"] = source.examination.num_frames
        entry["num_clips"] = sum(part.is_kept for part in source.parts)
    return entry


def _scene_entry(decision: PartDecision, clip: str | None) -> dict[str, Any]:
    part = decision.part
    return {
        "kind": "scene",
        "source": decision.source,
        **part.model_dump(mode="json"),
        "decision": "kept" if decision.is_kept else "dropped",
        "reasons": [reason.model_dump() for reason in decision.reasons],
        "score": decision.score,
        "crop": decision.crop.model_dump() if decision.crop else None,
        "clip": clip,
    }


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"
