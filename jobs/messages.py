"""Messages in Redis: strict order of queues, turns of owners within one, and none lost with whoever takes it.

A message that is taken is held for a while, as in SQS: its holder says again and again that it lives, and
when it is done; else somebody else gets the message. So a message may be delivered more than once. Nobody
polls: who finds nothing waits at bells, lists of one element that Redis hands to one of those who wait
(`jobs._scripts.messages`).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from jobs._scripts import messages as scripts
from jobs.clock import milliseconds
from jobs.redis_store import RedisStore

# Also how long it may take until somebody notices that whoever a bell has woken died before he looked.
MAX_WAIT_SECONDS = 2.0
_FIRST_DELAY, _LONGEST_DELAY = timedelta(seconds=1), timedelta(seconds=60)
_PREFIX = "dv:queue:"


@dataclass(frozen=True)
class Message:
    """Something to be done.

    Attributes:
        queue: Its queue's name, without spaces.
        id: Of its own in the queue: one that is put while it waits stays in its place.
        line: What kind of work it is.
        owner: Whose turn it takes.
        weight: How many turns the owner has for one of others, at least 1.
    """

    queue: str
    id: str
    line: str
    owner: str
    weight: int = 1


@dataclass(frozen=True)
class Delivery:
    """A message that somebody holds.

    Attributes:
        queue: Where it was.
        id: Of the message.
        line: Of the message.
        num_tries: How often it has been delivered since it was put, with this time.
        receipt: By which its holder is known.
    """

    queue: str
    id: str
    line: str
    num_tries: int
    receipt: str

    @property
    def failure_delay(self) -> timedelta:
        """How long to wait after this try has failed: a storage or store may be away."""
        return retry_delay(self.num_tries, first=_FIRST_DELAY, factor=2, longest=_LONGEST_DELAY)


@dataclass(frozen=True)
class Wanted:
    """What somebody takes.

    Attributes:
        queues: The first that has anything comes first, always.
        groups: Of lines. Those of one owner take turns, also where different takers differ in the lines of a
            group; in one group, who came first.
    """

    queues: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]

    @cached_property
    def bells(self) -> list[str]:
        """Keys at which to wait."""
        return [bell_key(line) for group in self.groups for line in group]

    @cached_property
    def arguments(self) -> tuple[str, str]:
        """As the script takes it."""
        return json.dumps(self.queues), json.dumps(self.groups)


class MessageQueue(RedisStore):
    """The queues of one database."""

    def put(self, message: Message, *, delay: timedelta = timedelta()) -> None:
        """Adds a message, or takes it from whoever holds it.

        Args:
            message: To be delivered.
            delay: Before it may be taken. Of two, the earlier time counts.
        """
        arguments = (message.queue, message.id, message.line, message.owner, message.weight)
        self._run_once(scripts.PUT, *arguments, milliseconds(delay))

    def take(self, wanted: Wanted, *, hold: timedelta) -> Delivery | float:
        """The message that is next, or in how many seconds there may be one.

        Args:
            wanted: Which.
            hold: For how long nobody else gets it.
        """
        receipt = secrets.token_hex(16)
        answer = self._run(scripts.TAKE, receipt, milliseconds(hold), *wanted.arguments)
        if len(answer) == 1:
            return MAX_WAIT_SECONDS if answer[0] < 0 else answer[0] / 1000
        queue, message_id, line, num_tries = answer
        return Delivery(queue.decode(), message_id.decode(), line.decode(), num_tries, receipt)

    def wait(self, bells: Sequence[str], seconds: float) -> None:
        """Returns when one of the bells rings, or after some time."""
        self.client.blpop(bells, timeout=wait_seconds(seconds))

    def ring(self, bell: str) -> None:
        """Wakes one who waits at a bell."""
        self.client.rpush(bell, 1)
        self.client.expire(bell, 60)

    def keep(self, delivery: Delivery, *, hold: timedelta) -> bool:
        """Says that the holder lives; whether the message is still his."""
        return bool(self._run(scripts.KEEP, delivery.receipt, milliseconds(hold)))

    def finish(self, delivery: Delivery) -> None:
        """Ends a message, unless it is somebody else's by now."""
        self._run(scripts.RELEASE, delivery.receipt, _FINISHED)

    def put_back(self, delivery: Delivery, *, delay: timedelta = timedelta()) -> None:
        """Lets others have a message, unless it is theirs by now.

        Args:
            delivery: Of the message.
            delay: Before that; without one it is the next of its line.
        """
        self._run(scripts.RELEASE, delivery.receipt, milliseconds(delay))

    def ids(self, queue: str) -> list[str]:
        """Of all messages: waiting, put off and taken."""
        return [item.decode() for item in self.client.hkeys(f"{_PREFIX}{queue}:messages")]

    def depths(self, queues: Sequence[str]) -> list[tuple[int, int]]:
        """How many messages each queue has: waiting, for their turn or a time, and taken."""
        with self.client.pipeline(transaction=False) as pipeline:
            for queue in queues:
                pipeline.hlen(f"{_PREFIX}{queue}:messages")
                pipeline.zcard(f"{_PREFIX}{queue}:taken")
            answers = pipeline.execute()
        pairs = zip(answers[::2], answers[1::2], strict=True)
        return [(max(0, num_messages - num_taken), num_taken) for num_messages, num_taken in pairs]


_FINISHED = -1


def bell_key(name: str) -> str:
    """The key of the bell of a line, or of somebody's own."""
    return f"{_PREFIX}bell:{name}"


def retry_delay(attempts: int, *, first: timedelta, factor: float, longest: timedelta) -> timedelta:
    """How long to wait after so many failed attempts: exponential.

    Args:
        attempts: Failed so far, at least 1.
        first: After the first.
        factor: Of each wait to the one before.
        longest: Of all.
    """
    # In seconds: the hundredth power is no length of time, but still a number.
    seconds = first.total_seconds() * factor ** min(attempts - 1, 100)
    return timedelta(seconds=min(seconds, longest.total_seconds()))


def wait_seconds(seconds: float) -> float:
    """How long to wait at bells for something that may be there in so many seconds."""
    # 0 would be for ever.
    return min(max(seconds, 0.001), MAX_WAIT_SECONDS)
