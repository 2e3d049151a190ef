"""Secrets that sign webhooks, one for each API key and one of the installation, in Redis.

What a key's owner verifies with must not let them forge what another one receives. The installation's secret
signs for jobs without keys; and for keys that are older than secrets of their own, until they are rotated:
their receivers verify with it.
"""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from jobs import keys
from jobs.redis_store import RedisStore
from jobs.values import Value

INSTALLATION = "local"
"""The owner of jobs without keys."""
_PREFIX = "whsec_"
_NUM_BYTES = 32
# Of one owner who rotates again and again, and of replicas that each had a file.
_MAX_PREVIOUS = 10
_FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)


class PreviousSecret(Value):
    """A secret that signs for some time yet.

    Attributes:
        secret: "whsec_..."
        until: UTC; None for as long as the current one is not rotated.
    """

    secret: str
    until: datetime | None


class WebhookSecrets(Value):
    """What signs the webhooks of one owner.

    Attributes:
        secret: The current one, "whsec_..."
        created_at: UTC.
        previous: Those that sign too, the newest first.
        shares_until: Until when the installation's sign too; None for never. Of keys that were there before
            keys had secrets.
    """

    secret: str
    created_at: datetime
    previous: tuple[PreviousSecret, ...] = ()
    shares_until: datetime | None = None

    def signing(self) -> list[str]:
        """Those that sign now, the current one first."""
        now = datetime.now(UTC)
        return [self.secret, *(old.secret for old in self.previous if old.until is None or old.until > now)]

    @property
    def is_sharing(self) -> bool:
        """Whether the installation's sign too."""
        return self.shares_until is not None and self.shares_until > datetime.now(UTC)


class WebhookSecretStore(RedisStore):
    """The secrets of an installation."""

    def find(self, owner: str) -> WebhookSecrets | None:
        """Secrets of an owner; None for a key that is older than secrets of keys: the installation's sign."""
        content = self.client.hget(keys.WEBHOOK_SECRETS(), owner)
        return None if content is None else WebhookSecrets.model_validate_json(content)

    def ensure(self, owner: str) -> WebhookSecrets:
        """Secrets of an owner; who has none gets one."""
        found = self.find(owner)
        if found is None:
            made = make_secrets(shares_until=None if owner == INSTALLATION else _FOR_EVER)
            self.client.hsetnx(keys.WEBHOOK_SECRETS(), owner, made.model_dump_json())
            found = self.find(owner)
            assert found is not None
        return found

    def rotate(self, owner: str, *, overlap: timedelta) -> WebhookSecrets:
        """Gives an owner a new secret.

        Args:
            owner: Whose.
            overlap: How long those that sign now sign too, so that receivers can change in between.
        """
        until = datetime.now(UTC) + overlap

        def change(pipeline: Any) -> WebhookSecrets:
            content = pipeline.hget(keys.WEBHOOK_SECRETS(), owner)
            current = None if content is None else WebhookSecrets.model_validate_json(content)
            made = _successor(owner, current, until)
            pipeline.multi()
            pipeline.hset(keys.WEBHOOK_SECRETS(), owner, made.model_dump_json())
            return made

        return self._transaction(change, keys.WEBHOOK_SECRETS())

    def adopt(self, secret: str) -> None:
        """Makes a secret from before the store had them the installation's, or one that signs too where it
        has one already: each API process had a file of its own. Harmless a second time.

        Args:
            secret: "whsec_..."
        """
        made = make_secrets(secret=secret)
        if self.client.hsetnx(keys.WEBHOOK_SECRETS(), INSTALLATION, made.model_dump_json()):
            return

        def add(pipeline: Any) -> None:
            current = WebhookSecrets.model_validate_json(pipeline.hget(keys.WEBHOOK_SECRETS(), INSTALLATION))
            if secret in (current.secret, *(old.secret for old in current.previous)):
                return
            previous = (*current.previous, PreviousSecret(secret=secret, until=None))[:_MAX_PREVIOUS]
            pipeline.multi()
            changed = current.model_copy(update={"previous": previous})
            pipeline.hset(keys.WEBHOOK_SECRETS(), INSTALLATION, changed.model_dump_json())

        self._transaction(add, keys.WEBHOOK_SECRETS())


def make_secrets(*, secret: str | None = None, shares_until: datetime | None = None) -> WebhookSecrets:
    """New ones; a random secret unless one is given."""
    if secret is None:
        secret = _PREFIX + base64.b64encode(secrets.token_bytes(_NUM_BYTES)).decode()
    return WebhookSecrets(secret=secret, created_at=datetime.now(UTC), shares_until=shares_until)


def _successor(owner: str, current: WebhookSecrets | None, until: datetime) -> WebhookSecrets:
    if current is None:
        return make_secrets(shares_until=None if owner == INSTALLATION else until)
    previous = tuple(PreviousSecret(secret=old, until=until) for old in current.signing()[:_MAX_PREVIOUS])
    shares_until = None if current.shares_until is None else min(current.shares_until, until)
    return make_secrets(shares_until=shares_until).model_copy(update={"previous": previous})
