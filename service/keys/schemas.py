"""API keys on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from jobs.api_keys import ApiKey, KeyLimits, Scope

_EXAMPLE: dict[str, Any] = {
    "id": "key_01k9zq3v5n8w2c7m4t6y1x0abc",
    "object": "key",
    "name": "archive",
    "hint": "dv_3kQx",
    "scopes": ["jobs:read", "jobs:write"],
    "limits": KeyLimits(weight=3).model_dump(mode="json"),
    "created_at": "2026-11-21T12:00:00Z",
    "expires_at": None,
}


def _in_future(value: datetime | None) -> datetime | None:
    if value is not None and value <= datetime.now(UTC):
        raise ValueError("it is over already; give a time to come, or null for never")
    return value


Name = Annotated[str, Field(min_length=1, max_length=200, description="For people: who or what uses it.")]
ExpiresAt = Annotated[
    AwareDatetime | None, AfterValidator(_in_future), Field(description="With a time zone; null for never.")
]
Scopes = Annotated[list[Scope], Field(min_length=1, max_length=len(Scope), description="What it may do.")]


class KeyRequest(BaseModel):
    """Asks for a key."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "archive",
                    "scopes": ["jobs:read", "jobs:write"],
                    "limits": {"max_unfinished_jobs": 20, "weight": 3},
                }
            ]
        },
    )

    name: Name
    scopes: Scopes = [Scope.READ, Scope.WRITE]
    limits: Annotated[KeyLimits, Field(description="What is left out is the server's.")] = KeyLimits()
    expires_at: ExpiresAt = None


class KeyChangeRequest(BaseModel):
    """Changes a key; what is left out stays. Limits are replaced as a whole."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"limits": {"requests_per_minute": 1200}}]}
    )

    name: Name | None = None
    scopes: Scopes | None = None
    limits: KeyLimits | None = None
    expires_at: ExpiresAt = None


class KeySchema(BaseModel):
    """An API key, without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: Annotated[str, Field(description="Also the `owner` of its jobs.")]
    object: Literal["key"] = "key"
    name: str
    hint: Annotated[str, Field(description="The first characters of the secret.")]
    scopes: list[Scope]
    limits: Annotated[KeyLimits, Field(description="0 leaves it to the server's settings.")]
    created_at: datetime
    expires_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """A key as its administrators see it."""
        return cls.model_validate(key.model_dump())


class NewKeySchema(KeySchema):
    """A key that was made just now."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_EXAMPLE, "secret": "dv_3kQxT0b2JvYc9mE4rZ1uWq8sLh6nPd5a"}]}
    )

    secret: Annotated[str, Field(description="To be sent as `Authorization: Bearer`; not shown again.")]


class KeyListSchema(BaseModel):
    """All keys, the oldest first."""

    object: Literal["list"] = "list"
    data: list[KeySchema]
