"""The API's description as a judge of what stands in for the API: a stand-in that drifts fails its tests."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.settings import ServiceSettings
from service.app import create_app

_ROOT = "urn:api"
_EVENTS = "text/event-stream"


@functools.cache
def document() -> Any:
    """The description of the real API."""
    return create_app(ServiceSettings(), uses_keys=True).openapi()


def example(schema: str, /, **changes: Any) -> Any:
    """What the description gives as an example of a schema, with other values.

    Args:
        schema: Its name.
        changes: Values by name; a new `id` is that of links too.
    """
    found = document()["components"]["schemas"][schema]["examples"][0]
    if "id" in changes:
        found = json.loads(json.dumps(found).replace(found["id"], changes["id"]))
    return {**found, **changes}


class CheckedApp:
    """An app whose answers are held against the description: its paths, statuses, types and bodies; and so is
    the JSON that it accepted, which the real one might refuse.

    Attributes:
        is_checked: Off for what only a newer service, or none of ours, would answer.
        violations: What was found; a test fails if there is any.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.is_checked = True
        self.violations: list[str] = []
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1"):
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope["method"], scope["path"])
        request = bytearray()

        async def listen() -> Message:
            message = await receive()
            if dict(scope["headers"]).get(b"content-type") == b"application/json":
                request.extend(message.get("body", b""))
            return message

        async def check(message: Message) -> None:
            if self.is_checked:
                self.violations += answer.take(message)
                if request and message.get("status", 500) < 300:
                    self.violations += answer.check_request(bytes(request))
            await send(message)

        await self._app(scope, listen, check)


class _Answer:
    """One answer, while it is sent."""

    def __init__(self, method: str, path: str) -> None:
        self._name = f"{method} {path}"
        self._operation = _operation_of(method, path)
        self._schema: Any = None
        self._kind = ""
        self._body = b""

    def take(self, message: Message) -> Iterator[str]:
        if message["type"] == "http.response.start":
            yield from self._begin(message)
        elif self._schema is not None:
            self._body += message.get("body", b"")
            if self._kind == _EVENTS:
                *events, self._body = self._body.replace(b"\r\n", b"\n").split(b"\n\n")
                for event in events:
                    for line in event.splitlines():
                        if line.startswith(b"data:"):
                            yield from self._violations(line.removeprefix(b"data:"))
            elif not message.get("more_body"):
                yield from self._violations(self._body)

    def check_request(self, body: bytes) -> Iterator[str]:
        if self._operation is not None:
            place = (*self._operation, "requestBody", "content", "application/json", "schema")
            for error in _validator(place).iter_errors(json.loads(body)):
                yield f"{self._name} to a request with {error.json_path}: {error.message}"

    def _begin(self, message: Message) -> Iterator[str]:
        status = str(message["status"])
        headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        self._name += f" answered {status}"
        if self._operation is None:
            if status not in ("404", "405"):
                yield f"{self._name}: there is no such operation"
            return
        answers = _at(self._operation)["responses"]
        if status not in answers:
            yield f"{self._name}: described are {', '.join(answers)}"
            return
        self._kind = headers.get("content-type", "").partition(";")[0]
        content = answers[status].get("content", {})
        if not content or headers.get("content-length") == "0":
            return
        if self._kind not in content:
            yield f"{self._name}: it is {self._kind or 'untyped'}; described are {', '.join(content)}"
        elif self._kind == _EVENTS:
            self._schema = _validator(("components", "schemas", "JobEventSchema"))
        elif self._kind.endswith("json"):
            place = (*self._operation, "responses", status, "content", self._kind, "schema")
            self._schema = _validator(place)

    def _violations(self, body: bytes) -> Iterator[str]:
        for error in self._schema.iter_errors(json.loads(body)):
            yield f"{self._name}: {error.json_path}: {error.message}"


@functools.cache
def _operation_of(method: str, path: str) -> tuple[str, ...] | None:
    """Where in the description an operation is."""
    for template, operations in document()["paths"].items():
        if compile_path(template)[0].match(path):
            name = "get" if method == "HEAD" and "head" not in operations else method.lower()
            if name in operations:
                return "paths", template, name
    return None


@functools.cache
def _validator(place: tuple[str, ...]) -> Draft202012Validator:
    """Of the schema at a place of the description."""
    pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in place)
    resource = DRAFT202012.create_resource(document())
    registry = Registry[Any]().with_resource(_ROOT, resource)
    schema = {"$ref": f"{_ROOT}#/{pointer.replace('{', '%7B').replace('}', '%7D')}"}
    return Draft202012Validator(schema, registry=registry)


def _at(place: tuple[str, ...]) -> Any:
    return functools.reduce(lambda found, part: found[part], place, document())
