"""The API's description, `/openapi.json`: what FastAPI finds in the endpoints, completed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from service.auth import Requires
from service.batches.schemas import BatchInputRequest, BatchRequest, BatchSchema
from service.deliveries.schemas import DeliveryRequest
from service.estimates.schemas import EstimateRequest
from service.jobs.schemas import JobEventSchema
from service.jobs.submissions import JobForm, JobRequest, JobSettings
from service.keys.schemas import KeyChangeRequest, KeyRequest, KeySchema, NewKeySchema
from service.openapi import HEADERS, RATE_LIMIT, REF_TEMPLATE, with_headers
from service.problems import Problem
from service.system.schemas import SessionRequest
from service.uploads.schemas import CompletionRequest, PartsRequest
from service.webhooks.schemas import DeliverySchema, RotationRequest
from service.webhooks.sent import router as sent_webhooks

# Those that endpoints read themselves.
_BODIES: tuple[type[BaseModel], ...] = (
    Problem,
    JobForm,
    JobRequest,
    JobSettings,
    BatchRequest,
    BatchInputRequest,
    EstimateRequest,
    SessionRequest,
    RotationRequest,
    KeyRequest,
    KeyChangeRequest,
    PartsRequest,
    CompletionRequest,
    DeliveryRequest,
)

# Answers with null in their examples, which FastAPI leaves out; and events, which it does not see.
_ANSWERS: tuple[type[BaseModel], ...] = (JobEventSchema, BatchSchema, KeySchema, NewKeySchema, DeliverySchema)
_EVENTS = "text/event-stream"
_EVENTS_TEXT = "Server-sent events; the `data` of each is a JobEventSchema as JSON."


def describe(app: FastAPI, routers: Iterable[APIRouter], *, uses_keys: bool) -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        app: What is described.
        routers: That its paths are from.
        uses_keys: Whether requests need an API key even while there is none.
    """
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
        webhooks=sent_webhooks.routes,
        license_info=app.license_info,
    )
    components = document["components"]
    modes: dict[JsonSchemaMode, tuple[type[BaseModel], ...]] = {
        "validation": _BODIES,
        "serialization": _ANSWERS,
    }
    for mode, model in ((mode, model) for mode, models in modes.items() for model in models):
        schema = model.model_json_schema(ref_template=REF_TEMPLATE, mode=mode)
        components["schemas"].update(schema.pop("$defs", {}))
        components["schemas"][model.__name__] = schema
    components["headers"] = HEADERS
    components["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key from `dovetail keys` or `POST /v1/keys`. The names beside it in an "
            "operation are scopes, one of which the key needs; `admin` is always one of them.",
        }
    }
    scopes = {
        route.name: sorted(_scopes(route.dependant))
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            _complete(operation, scopes.get(operation["operationId"], []), uses_keys=uses_keys)
    return document


def _complete(operation: dict[str, Any], scopes: list[str], *, uses_keys: bool) -> None:
    if "security" not in operation:
        operation["security"] = [{"key": scopes}] if uses_keys else [{"key": scopes}, {}]
    common = ["X-Request-Id"] if operation["security"] == [] else ["X-Request-Id", *RATE_LIMIT]
    for status, answer in operation["responses"].items():
        if _EVENTS in answer.get("content", {}):
            # FastAPI writes `itemSchema`, which OpenAPI has from 3.2 on.
            answer["content"][_EVENTS] = {"schema": {"type": "string", "description": _EVENTS_TEXT}}
        # Who has no valid key is not counted.
        names = ("X-Request-Id",) if status == "401" else common
        answer.setdefault("headers", {}).update(with_headers(*names)["headers"])


def _scopes(dependant: Dependant) -> set[str]:
    """What the endpoint's dependencies ask of a key."""
    found = {dependant.call.scope.value} if isinstance(dependant.call, Requires) else set()
    return found.union(*(_scopes(child) for child in dependant.dependencies))
