"""What is submitted: a job before anything is made of it, and what a probe found in its source."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, model_validator
from ulid import ULID

from jobs.options import JobOptions, PictureKind, is_picture
from jobs.transfers import FetchedSource
from jobs.values import Value


class Priority(StrEnum):
    """A job of a higher priority goes first, always. Also the names of the queues."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


PRIORITIES = tuple(Priority)
"""Highest first."""


class InputInfo(Value):
    """What the probe found in the upload.

    Attributes:
        filename: What the customer called it; never used as a path.
        size_bytes: Size.
        format_name: Of the container.
        codec: Of the video.
        width: Stored picture, in pixels.
        height: Stored picture, in pixels.
        rotation: Degrees by which players turn it.
        frame_rate: Nominal frames per second.
        duration_seconds: Of the video; None where the file does not say.
        num_frames: An estimate; None where nothing tells.
        has_audio: Whether there is sound.
        picture: Which kind of still it is, HEIF counts as jpg; None for all else.
        warnings: What will be repaired or lost.
    """

    filename: str
    size_bytes: int
    format_name: str
    codec: str
    width: int
    height: int
    rotation: int = 0
    frame_rate: float
    duration_seconds: float | None = None
    num_frames: int | None = None
    has_audio: bool = False
    picture: PictureKind | None = None
    warnings: tuple[str, ...] = ()


class WebhookTarget(Value):
    """Who is told about a job or batch.

    Attributes:
        url: Where to post.
        events: Names of the events that are wanted; empty for all.
    """

    url: str
    events: tuple[str, ...] = ()


class JobSpec(Value):
    """What was submitted. Never changes, except that `input` becomes known, and with it what was left to it.

    Attributes:
        id: "job_" and a ULID: ids sort by time of creation.
        owner: Id of the API key, or "local" on a server without keys.
        created_at: UTC.
        input_key: Of the source in the storage.
        input: What the probe found; None while the source is still to be fetched.
        source: Where it is fetched from; None if it came with the request or as an upload.
        options: What to make of it; the container is "auto" at most while `input` is not known.
        priority: Of the job.
        labels: To find jobs by.
        metadata: Anything of the customer's, given back as it is.
        webhook: Whom to tell.
        deliver_to: Where its result goes, as in `ResultDelivery`; None if it is only kept here. A prefix at
            most while `input` is not known.
        batch_id: Of the batch it belongs to.
        weight: Share of its owner's key beside other keys.
        max_output_pixels: Width times height times frames that its key allows; 0 for any number. Also for the
            worker: not every source tells its length.
        max_stored_bytes: That its owner's objects may take together; 0 for any number.
    """

    id: str
    owner: str
    created_at: datetime
    input_key: str
    input: InputInfo | None = None
    source: FetchedSource | None = None
    options: JobOptions
    priority: Priority = Priority.NORMAL
    labels: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    webhook: WebhookTarget | None = None
    deliver_to: str | None = None
    batch_id: str | None = None
    weight: int = 1
    max_output_pixels: int = 0
    max_stored_bytes: int = 0

    @model_validator(mode="after")
    def _decide_container(self) -> Self:
        if self.input is not None:
            object.__setattr__(self, "options", self.options.of_source(self.input.picture))
        return self

    @property
    def gives_picture(self) -> bool:
        """Whether the result is a still and no video."""
        return is_picture(self.options.container)

    @property
    def filename(self) -> str:
        """What the customer calls the source."""
        known = self.input or self.source
        return "video" if known is None else known.filename


def new_id(prefix: str) -> str:
    """A new id such as "job_01K9...": sorts by time, cannot be guessed from another one."""
    return f"{prefix}_{str(ULID()).lower()}"
