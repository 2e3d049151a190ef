"""What schemathesis has to be told about our API."""

from __future__ import annotations

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/offset+octet-stream")
def serialize_offset_stream(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    """The body of a tus request is any bytes."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.serializer("application/x-ndjson")
def serialize_json_lines(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    """One JSON value per line."""
    if isinstance(value, bytes | str):
        return value if isinstance(value, bytes) else value.encode()
    lines = value if isinstance(value, list) else [value]
    return "\n".join(map(json.dumps, lines)).encode()
