"""What becomes of every source and scene, decided from their numbers alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from training.dataset.config import DatasetConfig
from training.dataset.metadata import metadata_reasons
from training.dataset.motion import plan_crop
from training.dataset.records import Box, Examination, Reason, SceneMeasures, ScenePart, SourceFacts

# Measures that scenes are ranked by, and whether more of it is better.
_RANKED = {"sharpness": True, "fine_detail": True, "blockiness": False, "noise": False}


PartKey = tuple[str, int, int]


@dataclass(frozen=True)
class PartDecision:
    """What becomes of a part of a scene: a clip where there are no reasons against it.

    Attributes:
        source: Path of the file.
        score: Mean rank among all that are within the limits, 0 to 1 for the best; None for others.
        crop: What is cut out; None where it is dropped.
    """

    source: str
    part: ScenePart
    reasons: tuple[Reason, ...] = ()
    score: float | None = None
    crop: Box | None = None

    @property
    def is_kept(self) -> bool:
        return not self.reasons

    @property
    def key(self) -> PartKey:
        """What makes it another than all others."""
        return (self.source, self.part.scene, self.part.part)


@dataclass(frozen=True)
class SourceDecision:
    """What becomes of a file. `examination` is None where it was not read."""

    facts: SourceFacts
    reasons: tuple[Reason, ...]
    examination: Examination | None = None
    parts: tuple[PartDecision, ...] = ()


def source_reasons(facts: SourceFacts, config: DatasetConfig, seen: dict[str, str]) -> list[Reason]:
    """Why a file is not read.

    Args:
        facts: Of the file.
        config: The limits.
        seen: Digests of the files before it, with their paths; this one is added.
    """
    first = seen.setdefault(facts.sha256, facts.path) if facts.sha256 else facts.path
    if first != facts.path:
        return [Reason(step="metadata", code="duplicate", text=f"the same content as {first}")]
    return metadata_reasons(facts, config.metadata)


def reading_reasons(examination: Examination) -> list[Reason]:
    """Why nothing is taken of a file that was read: what a reader mends or skips is no example of good
    pictures, and it does not say which frames it was."""
    texts = [examination.error] if examination.error else list(examination.warnings)
    return [Reason(step="reading", code="damaged", text=text) for text in texts]


def decide(
    sources: Sequence[tuple[SourceFacts, Sequence[Reason], Examination | None]], config: DatasetConfig
) -> list[SourceDecision]:
    """Decides on all scenes of all sources; ranks need them all."""
    decisions = [_judge_source(*source, config) for source in sources]
    candidates = [part for source in decisions for part in source.parts if part.is_kept]
    scores = _scores(candidates)
    refusals = _surplus(candidates, scores, config)
    refusals |= _worst([part for part in candidates if part.key not in refusals], scores, config)

    def settled(part: PartDecision) -> PartDecision:
        scored = replace(part, score=scores.get(part.key))
        refusal = refusals.get(part.key)
        return scored if refusal is None else replace(scored, reasons=(refusal,), crop=None)

    return [replace(source, parts=tuple(map(settled, source.parts))) for source in decisions]


def _judge_source(
    facts: SourceFacts, reasons: Sequence[Reason], examination: Examination | None, config: DatasetConfig
) -> SourceDecision:
    """A file by itself, against the limits."""
    if examination is None:
        return SourceDecision(facts, tuple(reasons))
    troubles = (*reasons, *reading_reasons(examination))
    parts = tuple(_judge(facts.path, part, troubles, config) for part in examination.parts)
    return SourceDecision(facts, troubles, examination, parts)


def _judge(source: str, part: ScenePart, troubles: Sequence[Reason], config: DatasetConfig) -> PartDecision:
    """A part by itself, against the limits."""
    measures = part.measures
    if measures is None or part.picture is None:
        text = f"{part.num_frames} frames, at least {config.metadata.min_frames} are taken"
        return PartDecision(source, part, (*troubles, Reason(step="scenes", code="short", text=text)))
    reasons = [*troubles, *_timing_reasons(measures, config), *_quality_reasons(measures, config)]
    crop = None
    if part.moving is None or measures.peak_motion < config.motion.min_motion:
        text = (
            f"a twentieth of the picture moves by {measures.peak_motion:g} pixels per frame or more, at "
            f"least {config.motion.min_motion:g} is taken"
        )
        reasons.append(Reason(step="motion", code="static", text=text))
    else:
        side = config.metadata.min_side
        crop = plan_crop(part.moving, part.picture, padding=config.motion.padding, min_side=side)
        if crop is None:
            text = (
                f"without black bars the picture has {part.picture.width}x{part.picture.height} pixels, "
                f"clips have at least {side} at each side"
            )
            reasons.append(Reason(step="motion", code="small", text=text))
    return PartDecision(source, part, tuple(reasons), crop=crop if not reasons else None)


def _timing_reasons(measures: SceneMeasures, config: DatasetConfig) -> Iterator[Reason]:
    limits = config.scenes
    for code, value, limit, what in (
        ("uneven", measures.uneven, limits.max_uneven, "are not shown for as long as the others"),
        ("repeated", measures.repeated, limits.max_repeated, "repeat the one before"),
    ):
        if value > limit:
            yield Reason(
                step="scenes",
                code=code,
                text=f"{value:.0%} of the frames {what}, up to {limit:.0%} are taken",
            )


def _quality_reasons(measures: SceneMeasures, config: DatasetConfig) -> Iterator[Reason]:
    limits = config.quality
    for code, name, limit in (
        ("empty", "contrast", limits.min_contrast),
        ("blurred", "sharpness", limits.min_sharpness),
        ("enlarged", "fine_detail", limits.min_fine_detail),
    ):
        value = getattr(measures, name)
        if value < limit:
            yield Reason(step="quality", code=code, text=f"{name} {value:g}, at least {limit:g} is taken")
    for code, name, limit in (
        ("blocky", "blockiness", limits.max_blockiness),
        ("noisy", "noise", limits.max_noise),
    ):
        value = getattr(measures, name)
        if value > limit:
            yield Reason(step="quality", code=code, text=f"{name} {value:g}, at most {limit:g} is taken")


def _scores(candidates: Sequence[PartDecision]) -> dict[PartKey, float]:
    """Mean rank of each in all measures: 1 for one that is the best in all."""
    if len(candidates) < 2:
        return {part.key: 1.0 for part in candidates}
    others = len(candidates) - 1
    ranks = []
    for name, more_is_better in _RANKED.items():
        values = np.array([getattr(part.part.measures, name) for part in candidates])
        ordered = np.sort(values)
        # Equal values have the mean of their places.
        places = (np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right") - 1) / 2
        ranks.append((places if more_is_better else others - places) / others)
    means = np.mean(ranks, axis=0)
    return {part.key: round(float(mean), 4) for part, mean in zip(candidates, means, strict=True)}


def _surplus(
    candidates: Sequence[PartDecision], scores: Mapping[PartKey, float], config: DatasetConfig
) -> dict[PartKey, Reason]:
    """Parts of scenes that have enough better ones."""
    most = config.quality.clips_per_scene
    by_scene: dict[tuple[str, int], list[PartKey]] = defaultdict(list)
    for part in sorted(candidates, key=lambda part: -scores[part.key]):
        by_scene[part.source, part.part.scene].append(part.key)
    text = f"of each scene the best {most} parts are taken"
    reason = Reason(step="scenes", code="surplus", text=text)
    return {key: reason for keys in by_scene.values() for key in keys[most:]}


def _worst(
    candidates: Sequence[PartDecision], scores: Mapping[PartKey, float], config: DatasetConfig
) -> dict[PartKey, Reason]:
    """What is not among the best share of all."""
    keys = sorted((part.key for part in candidates), key=lambda key: -scores[key])
    most = ceil(config.quality.keep * len(keys))
    return {
        key: Reason(
            step="quality",
            code="rank",
            text=f"place {place} of {len(keys)} by mean rank, the best {most} are taken",
        )
        for place, key in enumerate(keys, start=1)
        if place > most
    }
