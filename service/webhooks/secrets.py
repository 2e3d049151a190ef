"""Secrets that sign webhooks."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from standardwebhooks import Webhook

from jobs.settings import ServiceSettings

_PREFIX = "whsec_"
_NUM_BYTES = 32
FILENAME = "webhook-secret"


def signers(settings: ServiceSettings) -> list[Webhook]:
    """Those that sign, the current one first.

    Raises:
        ValueError: If a secret is no "whsec_" and base64.
    """
    current = (
        settings.webhook_secret.get_secret_value()
        if settings.webhook_secret is not None
        else secret_from_file(settings.data_dir / FILENAME)
    )
    return [
        Webhook(text) for text in (current, *(old.get_secret_value() for old in settings.webhook_old_secrets))
    ]


def secret_from_file(path: Path) -> str:
    """The secret in a file that only the owner can read; it is made where it is missing."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(_PREFIX + base64.b64encode(secrets.token_bytes(_NUM_BYTES)).decode())
            file.flush()
            os.fsync(file.fileno())
        try:
            # Of several processes that start together, the first one's secret is everybody's.
            path.hardlink_to(part)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    return path.read_text().strip()
