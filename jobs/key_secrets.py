"""Secrets of API keys: how they are made, which are good enough, and whose a kept digest is."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from jobs.errors import JobsError

_PREFIX = "dv_"
_MIN_SECRET_LENGTH = 32


class InvalidSecretError(JobsError):
    """Raised when what is given as a key's secret is none."""

    code = "invalid_secret"


def new_secret() -> str:
    """A secret of 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def check_secret(secret: str) -> None:
    """Refuses what is too short for a secret, or cannot be sent in a header.

    Raises:
        InvalidSecretError: If it is.
    """
    if len(secret) < _MIN_SECRET_LENGTH or not re.fullmatch(r"[!-~]+", secret):
        raise InvalidSecretError(
            f"a key's secret has at least {_MIN_SECRET_LENGTH} visible ASCII characters and no spaces, this "
            f"one has {len(secret)}; `openssl rand -hex 32` makes one"
        )


@dataclass(frozen=True)
class Holder:
    """Whose a secret is.

    Attributes:
        key_id: Of the key.
        until: UTC, whole seconds: when it is nobody's any more, since the key has another one. None: never.
    """

    key_id: str
    until: datetime | None = None

    def encode(self) -> str:
        """As it is kept: the id alone, or with the time behind it."""
        return self.key_id if self.until is None else f"{self.key_id} {int(self.until.timestamp())}"

    @classmethod
    def decode(cls, kept: bytes) -> Holder:
        """What `encode` has made."""
        key_id, _, until = kept.decode().partition(" ")
        return cls(key_id, datetime.fromtimestamp(int(until), UTC) if until else None)


def digest_of(secret: str) -> str:
    """A plain hash: the secret has 256 random bits, which no salt or slow hash makes safer."""
    return hashlib.sha256(secret.encode()).hexdigest()
