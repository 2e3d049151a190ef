"""A small service that keeps the HTTP contract to the letter; a job's time passes when one looks at it.

It upscales nothing: a job's result is its input. Each answer about a job shows its next moment, and each
event is the next moment too, so that no test depends on how fast a machine is.
"""

from __future__ import annotations

import asyncio
import base64
import email.parser
import email.policy
import hashlib
import json
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from ulid import ULID

from jobs.options import JobOptions
from media.picture_files import kind_of_name
from tests.contract import CheckedApp, example

KEY = "dv_test"
_REQUEST_FIELDS = {
    *("source", "options", "priority", "labels", "metadata", "webhook", "deliver_to", "filename"),
}
_BATCH_FIELDS = (_REQUEST_FIELDS | {"inputs", "manifest", "prefix"}) - {"source"}


class ProblemError(Exception):
    """Raised to answer with a problem."""

    def __init__(self, status: int, code: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class FakeService:
    """State and routes.

    Attributes:
        requests: Method and path of every request, in order.
        is_held: Whether jobs stay in progress for ever.
        has_events: Whether there are streams of events.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[str, dict[str, Any]] = {}
        self.moments: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.position: dict[str, int] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.batches: dict[str, list[str]] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.is_held = False
        self.has_events = True
        self._routes = FastAPI()
        self._route()
        self.app = CheckedApp(self._routes)

    # What a test looks at.

    def num_requests(self, method: str, path: str) -> int:
        return sum(found == method and place.startswith(path) for found, place in self.requests)

    # Jobs.

    def new_job(self, data: Path, filename: str, fields: dict[str, Any], batch: str | None = None) -> str:
        unknown = fields.keys() - _REQUEST_FIELDS
        if unknown:
            raise ProblemError(422, "invalid_request", f"no field {sorted(unknown)}")
        try:
            options = JobOptions(**fields.get("options", {}))
        except ValidationError as error:
            found = error.errors()[0]
            detail = f"{'.'.join(['options', *map(str, found['loc'])])}: {found['msg']}"
            raise ProblemError(422, "invalid_request", detail) from error
        content = data.stat().st_size
        digest = hashlib.sha256(data.read_bytes()).hexdigest() if content < 2**25 else ""
        job_id = f"job_{str(ULID()).lower()}"
        now = {"status": "queued", "stage": None, "progress": 0, "processed_frames": 0, "total_frames": None}
        now |= dict.fromkeys(("fps", "eta_seconds", "started_at", "decided"), None)
        found = {"filename": filename, "size_bytes": content, "width": 64, "height": 48}
        found |= {"frame_rate": 25.0, "duration_seconds": 1.2, "num_frames": 30}
        target = fields.get("deliver_to")
        delivery = None
        if target is not None:
            delivery = example("JobSchema")["delivery"] | {"url": f"{target}{job_id}.mp4"}
        base = example(
            "JobSchema", id=job_id, delivery=delivery, **now, queue_position=1, attempts=0,
            options=options.of_source(kind_of_name(filename)).to_json(),
            input=example("JobSchema")["input"] | found, priority=fields.get("priority", "normal"),
            labels=fields.get("labels", {}), metadata=fields.get("metadata", {}), batch_id=batch,
        )  # fmt: skip
        output = {
            "width": 128, "height": 96, "num_frames": 30, "duration_seconds": 1.2, "size_bytes": content,
            "sha256": digest,
        }  # fmt: skip
        work = {"status": "in_progress", "queue_position": None, "attempts": 1, "total_frames": 30}
        moments = [("status", base)]
        for event, news in [
            ("status", {**work, "stage": "planning", "total_frames": None}),
            ("progress", {**work, "stage": "upscaling", "processed_frames": 10, "progress": 30, "fps": 5.0}),
            ("segment", {**work, "stage": "upscaling", "processed_frames": 20, "progress": 60}),
            ("status", {**work, "stage": "joining", "processed_frames": 30, "progress": 95}),
            (
                "completed",
                {**work, "status": "completed", "processed_frames": 30, "progress": 100, "output": output},
            ),
        ]:
            moments.append((event, {**base, **news}))
        if "fail" in fields.get("metadata", {}):
            code = fields["metadata"]["fail"]
            error = {"code": code, "message": "it is broken"}
            moments[-1] = ("failed", {**moments[-2][1], "status": "failed", "error": error})
        self.jobs[job_id] = {"data": data, "key": None}
        self.moments[job_id], self.position[job_id] = moments, 0
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        if job_id not in self.jobs:
            raise ProblemError(404, "not_found", f"there is no job {job_id}")
        return self.moments[job_id][self.position[job_id]][1]

    def look(self, job_id: str) -> dict[str, Any]:
        """The job now; afterwards its next moment begins."""
        job = self.job(job_id)
        if self.position[job_id] + 1 < self.last_position(job_id):
            self.position[job_id] += 1
        return job

    def last_position(self, job_id: str) -> int:
        return 3 if self.is_held else len(self.moments[job_id])

    def finish(self, job_id: str) -> None:
        """Lets all of a job's time pass."""
        self.position[job_id] = len(self.moments[job_id]) - 1

    def change(self, job_id: str, event: str, **news: Any) -> dict[str, Any]:
        """Ends a job's future with something else."""
        now = self.position[job_id]
        job = {**self.job(job_id), **news}
        self.moments[job_id] = [*self.moments[job_id][: now + 1], (event, job)]
        self.position[job_id] = now + 1
        return job

    def require_upload(self, upload_id: str) -> dict[str, Any]:
        if upload_id not in self.uploads:
            raise ProblemError(404, "not_found", f"there is no upload {upload_id}")
        return self.uploads[upload_id]

    def source_of(self, source: Any) -> tuple[Path, str]:
        match source:
            case {"type": "upload", "upload_id": str(upload_id)}:
                upload = self.require_upload(upload_id)
                if upload["offset"] != upload["size_bytes"]:
                    raise ProblemError(409, "wrong_state", f"{upload_id} is not complete")
                return upload["path"], upload["filename"]
            case {"type": "url", "url": str(url)}:
                path = self.folder / f"url-{ULID()}"
                path.write_text(url)
                return path, url.rpartition("/")[2]
        raise ProblemError(422, "invalid_request", f"source is {source!r}")

    # Routes.

    def _route(self) -> None:
        app = self._routes

        @app.exception_handler(ProblemError)
        async def problem(request: Request, error: ProblemError) -> Response:
            content = example(
                "Problem", title="It did not work", status=error.status, detail=error.detail,
                instance=request.url.path, code=error.code,
            )  # fmt: skip
            return JSONResponse(content, error.status, error.headers, media_type="application/problem+json")

        @app.exception_handler(RequestValidationError)
        async def invalid(request: Request, error: RequestValidationError) -> Response:
            return await problem(request, ProblemError(422, "invalid_request", str(error.errors()[0])))

        @app.middleware("http")
        async def guard(request: Request, call_next: Any) -> Response:
            self.requests.append((request.method, request.url.path))
            self.headers.append(dict(request.headers))
            if request.headers.get("Authorization") != f"Bearer {KEY}":
                response = await problem(request, ProblemError(401, "unauthorized", "no such key"))
            else:
                response = await call_next(request)
            response.headers["X-Request-Id"] = f"req_{len(self.requests)}"
            return response

        self._route_jobs()
        self._route_uploads()
        self._route_batches()
        self._route_webhooks()

        @app.get("/v1/me")
        async def me() -> Any:
            return example("MeSchema", owner="me")

        @app.get("/v1/models")
        async def models() -> Any:
            model = example("ModelSchema", id="bicubic", kind="interpolation", scale=2, new_field=1)
            return {"object": "list", "data": [model]}

        @app.post("/v1/estimate")
        async def estimate(body: dict[str, Any]) -> Any:
            given = body.get("input", {"width": 64, "height": 48, "num_frames": 30})
            scale = JobOptions(**body["options"]).scale or 4
            size = {"width": int(given["width"] * scale), "height": int(given["height"] * scale)}
            return example("EstimateSchema", frames=given["num_frames"], output=size, seconds=None)

    def _route_webhooks(self) -> None:
        app = self._routes
        secrets = [example("WebhookSecretSchema", num_previous=0)]

        @app.get("/v1/webhooks/secret")
        async def secret() -> Any:
            return secrets[-1]

        @app.post("/v1/webhooks/secret/rotate")
        async def rotate(body: dict[str, Any]) -> Any:
            if body["overlap_seconds"] < 0:
                raise ProblemError(422, "invalid_request", "body.overlap_seconds: at least 0")
            secrets.append({**secrets[-1], "secret": f"whsec_{len(secrets)}", "num_previous": len(secrets)})
            return secrets[-1]

        @app.get("/v1/jobs/{job_id}/deliveries")
        async def of_job(job_id: str) -> Any:
            self.job(job_id)
            return {"object": "list", "data": [example("DeliverySchema")]}

        @app.get("/v1/batches/{batch_id}/deliveries")
        async def of_batch(batch_id: str) -> Any:
            return {"object": "list", "data": [example("DeliverySchema", event="batch.completed")]}

        @app.post("/v1/webhooks/deliveries/{delivery_id}/redeliver", status_code=202)
        async def redeliver(delivery_id: str) -> Any:
            return example("DeliverySchema", id=delivery_id, status="pending", attempts=0)

    def _route_jobs(self) -> None:
        app = self._routes

        @app.post("/v1/jobs", status_code=202)
        async def create(request: Request, response: Response) -> Any:
            body = await request.body()
            key, digest = request.headers.get("Idempotency-Key"), hashlib.sha256(body).hexdigest()
            if key is not None and key in self.keys:
                if self.keys[key][0] != digest:
                    raise ProblemError(422, "idempotency_conflict", f"{key} was used for another request")
                return self.job(self.keys[key][1])
            if request.headers["Content-Type"] == "application/json":
                fields = json.loads(body)
                data, filename = self.source_of(fields.get("source"))
            else:
                data, filename, fields = self._read_form(request.headers["Content-Type"], body)
            job_id = self.new_job(data, fields.get("filename", filename), fields)
            if key is not None:
                self.keys[key] = (digest, job_id)
            response.headers["Location"], response.headers["Retry-After"] = f"/v1/jobs/{job_id}", "2"
            return self.job(job_id)

        @app.get("/v1/jobs")
        async def listing(request: Request, limit: int = 20, after: str | None = None) -> Any:
            if not 1 <= limit <= 100:
                raise ProblemError(422, "invalid_request", f"limit {limit}")
            ids = sorted(self.jobs, reverse=request.query_params.get("order", "desc") == "desc")
            if after is not None:
                ids = ids[ids.index(after) + 1 :]
            # Like the real one, a page looks at a bounded number of jobs, and may be empty before the last.
            ids, more = ids[:limit], ids[limit:]
            wanted = request.query_params.getlist("status")
            labels = [label.split(":", 1) for label in request.query_params.getlist("label")]
            found = [
                job
                for job in map(self.job, ids)
                if (not wanted or job["status"] in wanted)
                and all(job["labels"].get(name) == value for name, value in labels)
            ]
            following = ids[-1] if more else None
            return {"object": "list", "data": found, "has_more": bool(more), "next": following}

        @app.get("/v1/jobs/{job_id}")
        async def show(job_id: str, request: Request) -> Response:
            job = self.look(job_id)
            etag = f'"{hashlib.sha256(json.dumps(job).encode()).hexdigest()[:16]}"'
            headers = {"ETag": etag}
            if job["status"] not in ("completed", "failed", "cancelled"):
                headers["Retry-After"] = "3"
            if request.headers.get("If-None-Match") == etag:
                return Response(None, 304, headers)
            return JSONResponse(job, headers=headers)

        @app.post("/v1/jobs/{job_id}/cancel", status_code=202)
        async def cancel(job_id: str) -> Any:
            if self.job(job_id)["status"] in ("completed", "failed", "cancelled"):
                raise ProblemError(409, "wrong_state", f"{job_id} is final")
            return self.change(job_id, "cancelled", status="cancelled", stage=None)

        @app.post("/v1/jobs/{job_id}/retry", status_code=202)
        async def retry(job_id: str) -> Any:
            if self.job(job_id)["status"] not in ("failed", "cancelled"):
                raise ProblemError(409, "wrong_state", f"{job_id} is {self.job(job_id)['status']}")
            self.change(job_id, "status", status="queued", error=None)
            return self.job(job_id)

        @app.delete("/v1/jobs/{job_id}", status_code=204)
        async def delete(job_id: str) -> None:
            self.job(job_id)
            del self.jobs[job_id]

        @app.get("/v1/jobs/{job_id}/events")
        async def events(job_id: str, request: Request) -> Response:
            self.job(job_id)
            if not self.has_events:
                return Response("<html>no streams here</html>", media_type="text/html")
            start = int(request.headers.get("Last-Event-ID", "-1-0").rpartition("-")[0]) + 1
            return StreamingResponse(self._stream_events(job_id, start), media_type="text/event-stream")

        @app.get("/v1/jobs/{job_id}/content")
        async def content(job_id: str, request: Request) -> Response:
            if self.job(job_id)["status"] != "completed":
                raise ProblemError(409, "not_ready", f"{job_id} has no result yet", Retry_After="2")
            data = self.jobs[job_id]["data"].read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()}"'
            headers = {"ETag": etag, "Accept-Ranges": "bytes"}
            wanted = request.headers.get("Range")
            if wanted is None or request.headers.get("If-Range", etag) != etag:
                return Response(data, headers=headers, media_type="video/mp4")
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                return Response(None, 416, {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return Response(data[start:], 206, headers, media_type="video/mp4")

    async def _stream_events(self, job_id: str, start: int) -> AsyncIterator[str]:
        yield ": ping\r\n\r\n"
        while job_id in self.jobs:
            for index in range(start, self.last_position(job_id)):
                event, job = self.moments[job_id][index]
                self.position[job_id] = max(self.position[job_id], index)
                data = json.dumps({"job": job, "type": event, "at": job["updated_at"], "detail": {}})
                yield f"id: {index}-0\r\nevent: {event}\r\ndata: {data}\r\n\r\n"
                start = index + 1
                if event in ("completed", "failed", "cancelled"):
                    return
            yield ": ping\n\n"
            await asyncio.sleep(0.01)

    def _read_form(self, kind: str, body: bytes) -> tuple[Path, str, dict[str, Any]]:
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        data, filename, fields = None, "", {}
        for part in form.iter_parts():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            name = part.get_param("name", header="Content-Disposition")
            if name == "file":
                data, filename = self.folder / f"form-{ULID()}", part.get_filename() or ""
                data.write_bytes(content)
            elif name == "request":
                fields = json.loads(content)
            else:
                raise ProblemError(422, "invalid_request", f"no field {name}")
        if data is None:
            raise ProblemError(422, "invalid_request", "no file")
        return data, filename, fields

    def _route_uploads(self) -> None:
        app = self._routes

        def require_tus(request: Request) -> None:
            if request.headers.get("Tus-Resumable") != "1.0.0":
                raise ProblemError(412, "invalid_request", "Tus-Resumable is missing")

        @app.post("/v1/uploads")
        async def create(request: Request) -> Response:
            require_tus(request)
            name, value = request.headers["Upload-Metadata"].split(" ")
            assert name == "filename"
            upload_id = f"upl_{str(ULID()).lower()}"
            path = self.folder / upload_id
            path.touch()
            size = int(request.headers["Upload-Length"])
            filename = base64.b64decode(value).decode()
            upload = example("UploadSchema", id=upload_id, filename=filename, size_bytes=size, offset=0)
            self.uploads[upload_id] = upload | {"path": path}
            headers = {"Location": str(request.url_for("show_upload", upload_id=upload_id))}
            return Response(None, 201, headers | {"Tus-Resumable": "1.0.0"})

        @app.head("/v1/uploads/{upload_id}")
        async def head(upload_id: str, request: Request) -> Response:
            require_tus(request)
            upload = self.require_upload(upload_id)
            headers = {"Upload-Offset": str(upload["offset"]), "Upload-Length": str(upload["size_bytes"])}
            return Response(None, 200, headers | {"Tus-Resumable": "1.0.0", "Cache-Control": "no-store"})

        @app.patch("/v1/uploads/{upload_id}")
        async def patch(upload_id: str, request: Request) -> Response:
            require_tus(request)
            upload = self.require_upload(upload_id)
            if request.headers["Content-Type"] != "application/offset+octet-stream":
                raise ProblemError(415, "invalid_request", "wrong Content-Type")
            if int(request.headers["Upload-Offset"]) != upload["offset"]:
                raise ProblemError(409, "wrong_state", f"the offset is {upload['offset']}")
            try:
                body = await request.body()
            except ClientDisconnect:
                return Response(status_code=400)
            algorithm, digest = request.headers["Upload-Checksum"].split(" ")
            if hashlib.new(algorithm, body).digest() != base64.b64decode(digest):
                raise ProblemError(460, "checksum_mismatch", "the bytes are not those of the checksum")
            if upload["offset"] + len(body) > upload["size_bytes"]:
                raise ProblemError(413, "too_large", "more bytes than announced")
            with upload["path"].open("ab") as file:
                file.write(body)
            upload["offset"] += len(body)
            headers = {"Upload-Offset": str(upload["offset"]), "Tus-Resumable": "1.0.0"}
            return Response(None, 204, headers)

        @app.post("/v1/uploads/{upload_id}/parts")
        async def parts(upload_id: str) -> Any:
            raise ProblemError(409, "no_direct_uploads", "this service keeps files in a folder")

        @app.delete("/v1/uploads/{upload_id}", status_code=204)
        async def delete(upload_id: str, request: Request) -> None:
            require_tus(request)
            self.require_upload(upload_id)
            del self.uploads[upload_id]

        @app.get("/v1/uploads/{upload_id}", name="show_upload")
        async def show(upload_id: str) -> Any:
            upload = self.require_upload(upload_id)
            is_done = upload["offset"] == upload["size_bytes"]
            shown = {name: value for name, value in upload.items() if name != "path"}
            return shown | {"status": "completed" if is_done else "uploading"}

    def _route_batches(self) -> None:
        app = self._routes

        def describe(batch_id: str) -> dict[str, Any]:
            if batch_id not in self.batches:
                raise ProblemError(404, "not_found", f"there is no batch {batch_id}")
            states = [self.look(job_id)["status"] for job_id in self.batches[batch_id]]
            named = ("queued", "in_progress", "completed", "failed", "cancelled")
            counts = dict.fromkeys(example("BatchSchema")["counts"], 0) | {"total": len(states)}
            counts |= {name: states.count(name) for name in named}
            is_done = all(state in ("completed", "failed", "cancelled") for state in states)
            status, progress = ("completed", 100) if is_done else ("in_progress", 0)
            return example(
                "BatchSchema", id=batch_id, status=status, counts=counts, progress=progress, rejected=[]
            )

        @app.post("/v1/batches", status_code=202)
        async def create(body: dict[str, Any]) -> Any:
            if body.keys() - _BATCH_FIELDS:
                raise ProblemError(422, "invalid_request", f"no field {body.keys() - _BATCH_FIELDS}")
            batch_id = f"batch_{str(ULID()).lower()}"
            shared = {
                name: body[name] for name in ("options", "priority", "labels", "metadata") if name in body
            }
            self.batches[batch_id] = []
            for one in body["inputs"]:
                data, filename = self.source_of(one["source"])
                fields = {**shared, **{name: one[name] for name in one if name != "source"}}
                self.batches[batch_id].append(self.new_job(data, filename, fields, batch_id))
            return describe(batch_id)

        @app.get("/v1/batches")
        async def listing(limit: int = 20) -> Any:
            found = [describe(batch_id) for batch_id in sorted(self.batches, reverse=True)]
            return {"object": "list", "data": found[:limit], "has_more": False, "next": None}

        @app.get("/v1/batches/{batch_id}")
        async def show(batch_id: str, response: Response) -> Any:
            response.headers["Retry-After"] = "3"
            return describe(batch_id)

        @app.get("/v1/batches/{batch_id}/results")
        async def results(batch_id: str, after: str | None = None) -> Any:
            describe(batch_id)
            ids = [job_id for job_id in self.batches[batch_id] if after is None or job_id > after]
            data = [
                {
                    "job_id": job["id"], "filename": job["input"]["filename"], "status": job["status"],
                    "container": job["options"]["container"], "content": job["links"]["content"],
                    "size_bytes": job["input"]["size_bytes"], "error": job["error"],
                }
                for job in map(self.job, ids[:1])
            ]  # fmt: skip
            has_more = len(ids) > 1
            return {
                "object": "list",
                "data": data,
                "has_more": has_more,
                "next": ids[0] if has_more else None,
            }

        @app.post("/v1/batches/{batch_id}/cancel", status_code=202)
        async def cancel(batch_id: str) -> Any:
            for job_id in self.batches[batch_id]:
                self.change(job_id, "cancelled", status="cancelled")
            return describe(batch_id)

        @app.delete("/v1/batches/{batch_id}", status_code=204)
        async def delete(batch_id: str) -> None:
            describe(batch_id)
            del self.batches[batch_id]


@contextmanager
def served(app: Any) -> Iterator[int]:
    """Runs an application on a port of this machine, which it yields."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server does not start"
        thread.join(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


if __name__ == "__main__":
    # In a process of its own, with what one measures here left out: writes its port, ends with its stdin.
    with served(FakeService(Path(sys.argv[1])).app) as own_port:
        print(own_port, flush=True)
        sys.stdin.read()
