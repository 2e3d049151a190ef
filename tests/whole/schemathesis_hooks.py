"""What schemathesis has to be told about our API."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/offset+octet-stream")
def serialize_offset_stream(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    """The body of a tus request is any bytes."""
    return value if isinstance(value, bytes) else str(value).encode()
