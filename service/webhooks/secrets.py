"""Which secrets sign a delivery: those in the store, and those that the operator set for the installation."""

from __future__ import annotations

from datetime import timedelta

from standardwebhooks import Webhook

from jobs.settings import ServiceSettings
from jobs.webhook_secrets import INSTALLATION, PreviousSecret, WebhookSecrets
from service.context import ServiceContext
from service.errors import ConflictError

FILENAME = "webhook-secret"
"""Where the secret was before the store had them, in `data_dir`."""


def check_settings(settings: ServiceSettings) -> None:
    """Looks at the secrets that the operator set.

    Raises:
        ValueError: If one is no "whsec_" and base64.
    """
    for text in _of_settings(settings):
        Webhook(text)


def signers(context: ServiceContext, owner: str) -> list[Webhook]:
    """Those that sign what is sent to an owner, the current one first. Blocking."""
    own = None if owner == INSTALLATION else context.webhook_secrets.find(owner)
    found = [] if own is None else own.signing()
    if own is None or own.is_sharing:
        found += _of_installation(context)
    return [Webhook(text) for text in found]


def secrets_of(context: ServiceContext, owner: str) -> WebhookSecrets:
    """Secrets of an owner, to show them. Blocking."""
    found = context.webhook_secrets.ensure(owner)
    if owner == INSTALLATION:
        current, *old = _of_installation(context)
        if current != found.secret:  # the operator set it
            previous = tuple(PreviousSecret(secret=text, until=None) for text in old)
            return found.model_copy(update={"secret": current, "previous": previous})
    return found


def rotate(context: ServiceContext, owner: str, *, overlap: timedelta) -> WebhookSecrets:
    """Gives an owner a new secret. Blocking.

    Raises:
        ConflictError: If the operator has set it.
    """
    if owner == INSTALLATION and context.settings.webhook_secret is not None:
        raise ConflictError(
            "the secret of this installation is set by DOVETAIL_WEBHOOK_SECRET; change it there, and put the "
            "old one into DOVETAIL_WEBHOOK_OLD_SECRETS"
        )
    return context.webhook_secrets.rotate(owner, overlap=overlap)


def _of_installation(context: ServiceContext) -> list[str]:
    given = _of_settings(context.settings)
    if context.settings.webhook_secret is not None:
        return given
    _adopt_file(context)
    return [*context.webhook_secrets.ensure(INSTALLATION).signing(), *given]


def _adopt_file(context: ServiceContext) -> None:
    """Takes over the secret of an installation from before the store had them: its receivers know it."""
    path = context.settings.data_dir / FILENAME
    if path.exists():
        context.webhook_secrets.adopt(path.read_text(encoding="ascii").strip())
        # Or it would sign again after it was rotated.
        path.replace(path.with_name(f"{FILENAME}.adopted"))


def _of_settings(settings: ServiceSettings) -> list[str]:
    current, old = settings.webhook_secret, settings.webhook_old_secrets
    return [secret.get_secret_value() for secret in (*((current,) if current else ()), *old)]
