"""What the service says of its customers: who a key belongs to, keys, webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from dovetail_client._words import DeliveryStatus
from dovetail_client.models import Value


class Me(Value):
    """Who the key belongs to and what it may do."""

    owner: str
    name: str | None = None
    scopes: tuple[str, ...] = ()
    limits: dict[str, Any] = Field(default_factory=dict)
    auth_required: bool = False


class Key(Value):
    """An API key, without its secret; `id` is the `owner` of its jobs."""

    id: str
    name: str
    hint: str = ""
    scopes: tuple[str, ...] = ()
    limits: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime | None = None
    expires_at: datetime | None = None


class NewKey(Key):
    """A key that was made just now, with its secret, which is not told again."""

    secret: str = Field(repr=False)


class WebhookSecret(Value):
    """What signs your webhooks.

    Attributes:
        secret: For a library of Standard Webhooks, as it is.
        num_previous: Earlier secrets that sign too, until receivers have changed.
    """

    secret: str
    created_at: datetime | None = None
    num_previous: int = 0


class Delivery(Value):
    """A webhook, and what has become of it.

    Attributes:
        id: The `webhook-id` of all its attempts.
        last_outcome: HTTP status of the last answer, or why there was none.
        queued_at: When it happened, or was last asked for again.
    """

    id: str
    event: str
    url: str
    status: DeliveryStatus
    attempts: int = 0
    last_outcome: str | None = None
    last_attempt_at: datetime | None = None
    queued_at: datetime | None = None
    links: dict[str, str | None] = Field(default_factory=dict)
