"""API keys, for keys of the scope `admin`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from dovetail_client._api import Methods
from dovetail_client._sources import id_of
from dovetail_client.account_models import Key, NewKey
from dovetail_client.models import Page


class KeyMethods(Methods):
    """Keys are given as such or by their ids."""

    async def create(
        self,
        name: str,
        *,
        scopes: Sequence[str] = ("jobs:read", "jobs:write"),
        limits: Mapping[str, int | Sequence[str]] | None = None,
        expires_at: datetime | None = None,
    ) -> NewKey:
        """Makes a key. Its secret is in the answer and nowhere else.

        Args:
            name: For people: who or what uses it.
            scopes: What it may do.
            limits: By name; what is left out is the service's.
            expires_at: With a time zone; None is never.

        Raises:
            ForbiddenError: If one's own key may not do this, or the service asks for no keys.
        """
        expiry = None if expires_at is None else expires_at.isoformat()
        body = {"name": name, "scopes": [*scopes], "limits": dict(limits or {}), "expires_at": expiry}
        return await self._api.post(NewKey, "/v1/keys", body)

    async def list(self) -> tuple[Key, ...]:
        """All of them, the oldest first."""
        return (await self._api.get(Page[Key], "/v1/keys")).data

    async def revoke(self, key: Key | str) -> None:
        """Makes a key useless within seconds. Its jobs stay until they expire."""
        await self._api.delete(f"/v1/keys/{id_of(key)}")
