"""What the server says about itself, on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.api_keys import KeyLimits, Scope


class HealthSchema(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReadinessSchema(BaseModel):
    """Whether the parts answer that every request needs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ok",
                    "checks": {
                        "redis": "ok",
                        "queue": "ok",
                        "storage": "ok",
                        "sandbox": "ok",
                        "workers": "ok",
                    },
                }
            ]
        }
    )

    status: Annotated[
        Literal["ok", "degraded", "unavailable"],
        Field(
            description="degraded: jobs are taken, but no worker is alive to do them or some of their "
            "tasks, or files are read in processes that are not confined."
        ),
    ]
    checks: Annotated[dict[str, str], Field(description="`ok`, or what is wrong.")]


class MeSchema(BaseModel):
    """Who asks."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "owner": "key_01k9zq3v5n8w2c7m4t6y1x0abc",
                    "name": "archive",
                    "scopes": ["jobs:read", "jobs:write"],
                    "limits": {
                        "requests_per_minute": 600,
                        "max_requests_at_once": 512,
                        "max_streams_at_once": 64,
                        "max_uploads_at_once": 64,
                        "max_unfinished_jobs": 0,
                        "max_upload_bytes": 53687091200,
                        "max_output_pixels": 0,
                        "max_stored_bytes": 0,
                        "weight": 1,
                        "priorities": [],
                    },
                    "auth_required": True,
                }
            ]
        }
    )

    owner: Annotated[str, Field(description="Whose jobs they see and make.")]
    name: str
    scopes: list[Scope]
    limits: Annotated[KeyLimits, Field(description="0 is no limit.")]
    auth_required: Annotated[bool, Field(description="Whether this server needs API keys.")]


class SessionRequest(BaseModel):
    """Signs a browser in."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"key": "dv_..."}]})

    key: Annotated[str, Field(min_length=1, max_length=200)]
