"""Parts of the API's description that FastAPI cannot see: bodies that we read ourselves, and headers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from jobs.options import JobOptions

REF_TEMPLATE = "#/components/schemas/{model}"
HEADERS: dict[str, dict[str, Any]] = {
    "Location": {"schema": {"type": "string"}, "description": "Path of what was made."},
    "ETag": {"schema": {"type": "string"}, "description": "For `If-None-Match` the next time."},
    "Retry-After": {
        "schema": {"type": "integer", "minimum": 1},
        "description": "Seconds after which it is worth asking again.",
    },
    "RateLimit-Limit": {
        "schema": {"type": "integer", "minimum": 1},
        "description": "Requests that the key may make in a minute. In answers to requests with a key.",
    },
    "RateLimit-Remaining": {
        "schema": {"type": "integer", "minimum": 0},
        "description": "How many of them are left, as far as the process knows that answers: processes count "
        "together a second's worth of requests at a time, so what others have taken since may be missing.",
    },
    "RateLimit-Reset": {
        "schema": {"type": "integer", "minimum": 0},
        "description": "Seconds until there is one more.",
    },
    "X-Request-Id": {
        "schema": {"type": "string"},
        "description": "To find the request in the server's log.",
    },
}
"""Headers that several answers have, by name."""
RATE_LIMIT = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


def with_headers(*names: str) -> dict[str, Any]:
    """Headers of an answer.

    Args:
        names: Of `HEADERS`.
    """
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def json_body(model: type[BaseModel], *, is_required: bool = True) -> dict[str, Any]:
    """A JSON body that the endpoint reads itself. `service.description` has to know the model.

    Args:
        model: Of the body.
        is_required: Whether there must be one.
    """
    schema = {"$ref": REF_TEMPLATE.format(model=model.__name__)}
    return {"requestBody": {"required": is_required, "content": {"application/json": {"schema": schema}}}}


def form_schema(
    model: type[BaseModel], *, file_field: str, file_schema: dict[str, Any], request_field: str
) -> dict[str, Any]:
    """A multipart body: a file, the request as JSON, and each part of the request as a field of its own.

    Args:
        model: Of the request; its `options` are fields too.
        file_field: Name of the field with the file.
        file_schema: What is in it.
        request_field: Name of the field with the request.
    """
    own = _properties(model)
    del own["options"]
    request = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": REF_TEMPLATE.format(model=model.__name__)},
        "description": "All of it at once, as JSON. A field of its own replaces what stands here.",
    }
    return {
        "type": "object",
        "required": [file_field],
        "properties": {
            file_field: file_schema,
            request_field: request,
            **_properties(JobOptions),
            **own,
        },
        "additionalProperties": False,
    }


def _properties(model: type[BaseModel]) -> dict[str, Any]:
    """Properties as fields of a form, where a value that is not there is left out instead of null."""
    found: dict[str, Any] = model.model_json_schema(ref_template=REF_TEMPLATE)["properties"]
    return {name: _without_null(schema) for name, schema in found.items()}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    match choices:
        case []:
            return rest
        case [only]:
            return {**rest, **only}
        case _:
            return {**rest, "anyOf": choices}
