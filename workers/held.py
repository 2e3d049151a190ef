"""What a worker holds while it works, and how that is kept: messages, leases, its place in the fleet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache
from typing import ClassVar, Self

from jobs.connections import impatient_client
from jobs.fleet import Fleet
from jobs.messages import Delivery, MessageQueue
from jobs.store import JobStore


@dataclass(frozen=True)
class HeldMessage:
    """A message that is being worked on.

    Attributes:
        url: Of the queue's database.
        seconds: After so long without a sign of life others get it.
        queue: As in `Delivery`, like the rest.
        id: Of the message.
        line: Of the message.
        num_tries: With this time.
        receipt: By which it is held.
    """

    url: str
    seconds: float
    queue: str
    id: str
    line: str
    num_tries: int
    receipt: str

    @classmethod
    def of(cls, delivery: Delivery, *, url: str, hold: timedelta) -> Self:
        """What is to be kept of a delivery."""
        return cls(url, hold.total_seconds(), **asdict(delivery))

    def keep(self) -> None:
        """Says that the holder lives."""
        _queue(self.url).keep(self._delivery(), hold=timedelta(seconds=self.seconds))

    def give_back(self) -> None:
        """Lets others have it, now."""
        _queue(self.url).put_back(self._delivery())

    def _delivery(self) -> Delivery:
        return Delivery(self.queue, self.id, self.line, self.num_tries, self.receipt)


@dataclass(frozen=True)
class HeldLease:
    """The lease of an attempt.

    Attributes:
        url: Of the store's database.
        seconds: For how long it is taken each time.
        job_id: Of the job.
        task: As in `TaskId`.
        token: Of the attempt.
    """

    url: str
    seconds: float
    job_id: str
    task: str
    token: str

    def keep(self) -> None:
        """Renews it."""
        self._renew(self.seconds)

    def give_back(self) -> None:
        """Lets it run out, now: others may take over, and the attempt has been one."""
        self._renew(0)

    def _renew(self, seconds: float) -> None:
        _store(self.url).renew(self.job_id, self.task, self.token, ttl=timedelta(seconds=seconds))


@dataclass(frozen=True)
class HeldPlace:
    """A place in the fleet's register, where a worker reports itself.

    Attributes:
        url: Of the store's database.
        worker_id: In the register.
    """

    url: str
    worker_id: str
    seconds: ClassVar[float] = 60.0

    def keep(self) -> None:
        """Nothing: what a worker reports nobody else knows."""

    def give_back(self) -> None:
        """Signs the worker off."""
        Fleet(_store(self.url).client).sign_off(self.worker_id)


Held = HeldMessage | HeldLease | HeldPlace
HELD_KINDS: dict[str, type[Held]] = {kind.__name__: kind for kind in (HeldMessage, HeldLease, HeldPlace)}


@cache
def _store(url: str) -> JobStore:
    return JobStore(impatient_client(url))


@cache
def _queue(url: str) -> MessageQueue:
    return MessageQueue(impatient_client(url))
