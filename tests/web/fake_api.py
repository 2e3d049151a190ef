"""The HTTP contract in memory: what the page needs of it, with jobs that go on when a test says so.

Uploads follow tus 1.0 to the letter (a broken request keeps what came through), events are replayed from
`Last-Event-ID`, and the growing stream grows.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from jobs.options import JobOptions
from service import web
from tests.contract import CheckedApp, example
from tests.web.made import FPS, HEIGHT, NUM_FRAMES, SCALE, SEGMENT_FRAMES, WIDTH, Clip

FINAL = ("completed", "failed", "cancelled")
_POLL_SECONDS = 0.02
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class ProblemError(Exception):
    """Raised to answer with a problem."""

    def __init__(self, status: int, code: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.headers = status, code, headers


class FakeJob:
    """A job whose work a test does by hand. Every change is an event."""

    def __init__(self, number: int, clip: Clip, *, filename: str, size_bytes: int, **changes: Any) -> None:
        self.clip = clip
        self.num_segments = 0
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._number = number
        self._num_changes = 0
        job_id = f"job_{number:026d}"
        found = {"filename": filename, "size_bytes": size_bytes, "width": WIDTH, "height": HEIGHT}
        found |= {
            "has_audio": False,
            "frame_rate": float(FPS),
            "duration_seconds": NUM_FRAMES / FPS,
            "num_frames": NUM_FRAMES,
        }
        self.state: dict[str, Any] = example(
            "JobSchema",
            id=job_id,
            status="queued",
            **dict.fromkeys(("stage", "fps", "eta_seconds", "started_at", "decided"), None),
            **dict.fromkeys(("progress", "processed_frames", "attempts"), 0),
            total_frames=NUM_FRAMES,
            queue_position=1,
            created_at=_time(number),
            updated_at=_time(number),
            input=example("JobSchema")["input"] | found,
            options=JobOptions(model="dovetail-dit-nano").of_source(None).to_json(),
            labels={},
        )
        self.change("status", **changes)

    @property
    def id(self) -> str:
        return str(self.state["id"])

    def change(self, event: str, **changes: Any) -> None:
        """Set fields and tell who listens."""
        self._num_changes += 1
        updated_at = _time(self._number, self._num_changes)
        self.state = {**self.state, **changes, "updated_at": updated_at}
        self.events.append((event, self.state))

    def publish(self, count: int = 1) -> None:
        """Finish the next segments."""
        for _ in range(count):
            self.num_segments += 1
            done = self.num_segments * SEGMENT_FRAMES
            self.change(
                "segment",
                status="in_progress",
                stage="upscaling",
                queue_position=None,
                started_at=_time(self._number),
                processed_frames=done,
                progress=min(99, 100 * done // NUM_FRAMES),
                fps=3.4,
                eta_seconds=(NUM_FRAMES - done) / 3.4,
            )

    def complete(self) -> None:
        """Finish what is left."""
        self.publish(len(self.clip.segments) - self.num_segments)
        output: dict[str, Any] = {"width": WIDTH * SCALE, "height": HEIGHT * SCALE, "num_frames": NUM_FRAMES}
        output |= {"duration_seconds": NUM_FRAMES / FPS, "size_bytes": len(self.clip.output)}
        output |= {"sha256": hashlib.sha256(self.clip.output).hexdigest()}
        done = {"progress": 100, "stage": None, "eta_seconds": None, "completed_at": _time(self._number, 42)}
        self.change("completed", status="completed", output=output, **done)

    def fail(self, code: str, message: str) -> None:
        """Give up."""
        error = {"code": code, "message": message}
        self.change("failed", status="failed", stage=None, queue_position=None, error=error)


class FakeApi:
    """The API and its knobs.

    Attributes:
        key: The key that requests need; None for a server without keys.
        does_work: Whether submitted jobs go on by themselves.
        refusals: Answers for the next requests, by method and path.
        estimate_seconds: What estimates say.
    """

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.key: str | None = None
        self.does_work = False
        self.has_events = True
        self.refusals: dict[tuple[str, str], ProblemError] = {}
        self.jobs: dict[str, FakeJob] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.submitted: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self.app = CheckedApp(self._build())

    def add_job(self, filename: str = "clip.mp4", **changes: Any) -> FakeJob:
        """A job as if submitted before."""
        size = self.clip.source.stat().st_size
        job = FakeJob(next(self._numbers), self.clip, filename=filename, size_bytes=size, **changes)
        self.jobs[job.id] = job
        return job

    def _build(self) -> FastAPI:
        app = FastAPI(openapi_url=None)
        web.mount(app)
        app.include_router(self._uploads())
        app.include_router(self._jobs())
        app.include_router(self._others())
        app.add_exception_handler(ProblemError, _answer_problem)
        app.middleware("http")(self._guard)
        return app

    async def _guard(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        path = request.url.path
        refusal = self.refusals.pop((request.method, path), None)
        if refusal is not None:
            return _answer_problem(request, refusal)
        is_open = not path.startswith("/v1") or path == "/v1/session"
        if self.key is not None and not is_open and not self._is_authorized(request):
            return _answer_problem(
                request, ProblemError(401, "unauthorized", "This server needs an API key.")
            )
        return await call_next(request)

    def _is_authorized(self, request: Request) -> bool:
        if request.headers.get("Authorization") == f"Bearer {self.key}":
            return True
        return request.method in ("GET", "HEAD") and request.cookies.get("dovetail_key") == self.key

    def _uploads(self) -> APIRouter:
        router = APIRouter(prefix="/v1/uploads")
        tus = {"Tus-Resumable": "1.0.0"}

        def find(upload_id: str) -> dict[str, Any]:
            if upload_id not in self.uploads:
                raise ProblemError(404, "not_found", f"There is no upload {upload_id}.")
            return self.uploads[upload_id]

        @router.post("")
        async def create(request: Request) -> Response:
            metadata = dict(part.split() for part in request.headers["Upload-Metadata"].split(","))
            upload_id = f"upl_{next(self._numbers):026d}"
            self.uploads[upload_id] = {
                "filename": base64.b64decode(metadata["filename"]).decode(),
                "length": int(request.headers["Upload-Length"]),
                "data": bytearray(),
            }
            return Response(status_code=201, headers={**tus, "Location": f"/v1/uploads/{upload_id}"})

        @router.head("/{upload_id}")
        async def offset(upload_id: str) -> Response:
            upload = find(upload_id)
            sizes = {"Upload-Offset": len(upload["data"]), "Upload-Length": upload["length"]}
            return Response(headers={**tus, **{name: str(size) for name, size in sizes.items()}})

        @router.patch("/{upload_id}")
        async def append(request: Request, upload_id: str) -> Response:
            data = find(upload_id)["data"]
            start = len(data)
            if request.headers["Upload-Offset"] != str(start):
                raise ProblemError(409, "wrong_offset", f"The upload is at {start}.")
            try:
                async for part in request.stream():
                    data.extend(part)
            except ClientDisconnect:
                return Response(status_code=400)
            algorithm, digest = request.headers["Upload-Checksum"].split()
            if hashlib.new(algorithm, data[start:]).digest() != base64.b64decode(digest):
                del data[start:]
                raise ProblemError(460, "checksum_mismatch", "The bytes were damaged on the way.")
            return Response(status_code=204, headers={**tus, "Upload-Offset": str(len(data))})

        @router.delete("/{upload_id}")
        async def terminate(upload_id: str) -> Response:
            find(upload_id)
            del self.uploads[upload_id]
            return Response(status_code=204, headers=tus)

        return router

    def _jobs(self) -> APIRouter:
        router = APIRouter(prefix="/v1/jobs")

        def find(job_id: str) -> FakeJob:
            if job_id not in self.jobs:
                raise ProblemError(
                    404, "not_found", f"There is no job {job_id!r}; it was deleted or never existed."
                )
            return self.jobs[job_id]

        @router.post("", status_code=202)
        async def submit(request: Request) -> dict[str, Any]:
            body = await request.json()
            upload = self.uploads.pop(body["source"]["upload_id"], None)
            if upload is None or len(upload["data"]) != upload["length"]:
                raise ProblemError(409, "wrong_state", "The upload is not complete.")
            self.submitted.append({**body, "bytes": bytes(upload["data"])})
            job = self.add_job(body["filename"], priority=body["priority"])
            if self.does_work:
                task = asyncio.create_task(_work(job))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            return job.state

        @router.get("")
        async def index(request: Request) -> dict[str, Any]:
            query = request.query_params
            states = [job.state for job in reversed(self.jobs.values())]
            if wanted := query.getlist("status"):
                states = [state for state in states if state["status"] in wanted]
            if after := query.get("after"):
                states = [state for state in states if state["id"] < after]
            limit = int(query.get("limit", 20))
            has_more = len(states) > limit
            states = states[:limit]
            return {"object": "list", "data": states, "has_more": has_more} | {
                "next": states[-1]["id"] if has_more else None
            }

        @router.get("/{job_id}")
        async def one(job_id: str) -> dict[str, Any]:
            return find(job_id).state

        @router.post("/{job_id}/cancel", status_code=202)
        async def cancel(job_id: str) -> dict[str, Any]:
            job = find(job_id)
            if job.state["status"] in FINAL:
                raise ProblemError(409, "wrong_state", f"A {job.state['status']} job cannot be cancelled.")
            job.change("cancelled", status="cancelled", stage=None, queue_position=None, eta_seconds=None)
            return job.state

        @router.post("/{job_id}/retry", status_code=202)
        async def retry(job_id: str) -> dict[str, Any]:
            job = find(job_id)
            job.change("status", status="queued", error=None, queue_position=1)
            return job.state

        @router.delete("/{job_id}")
        async def delete(job_id: str) -> Response:
            del self.jobs[find(job_id).id]
            return Response(status_code=204)

        @router.get("/{job_id}/events")
        async def events(request: Request, job_id: str) -> Response:
            if not self.has_events:
                raise ProblemError(503, "unavailable", "No events today.")
            first = int(request.headers.get("Last-Event-ID", "0"))
            return StreamingResponse(_events(find(job_id), first), media_type="text/event-stream")

        @router.get("/{job_id}/stream")
        async def stream(job_id: str) -> Response:
            if not find(job_id).num_segments:
                raise ProblemError(409, "not_ready", "Nothing is finished yet.", **{"Retry-After": "2"})
            if find(job_id).state["status"] in ("failed", "cancelled"):
                raise ProblemError(410, "gone", "There is nothing to play.")
            return StreamingResponse(_grow(find(job_id)), media_type="video/mp4")

        @router.get("/{job_id}/hls/playlist.m3u8")
        async def playlist(job_id: str) -> Response:
            codecs = find(job_id).clip.codecs
            text = f'#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000,CODECS="{codecs}"\nvideo.m3u8\n'
            return Response(text, media_type="application/vnd.apple.mpegurl")

        @router.get("/{job_id}/preview.jpg")
        async def preview(job_id: str, side: Literal["before", "after"]) -> Response:
            if not find(job_id).num_segments:
                raise ProblemError(409, "not_ready", "Nothing is finished yet.")
            return Response(find(job_id).clip.previews[side], media_type="image/jpeg")

        @router.get("/{job_id}/source")
        async def source(request: Request, job_id: str) -> Response:
            return _ranged(request, find(job_id).clip.source.read_bytes())

        @router.get("/{job_id}/content")
        async def content(request: Request, job_id: str) -> Response:
            job = find(job_id)
            response = _ranged(request, job.clip.output)
            if "download" in request.query_params:
                response.headers["Content-Disposition"] = 'attachment; filename="restored.mp4"'
            return response

        return router

    def _others(self) -> APIRouter:
        router = APIRouter(prefix="/v1")

        @router.get("/me")
        async def me() -> dict[str, Any]:
            is_required = self.key is not None
            return example("MeSchema", owner="local", name="Ada", auth_required=is_required)

        @router.post("/session")
        async def sign_in(request: Request) -> Response:
            if (await request.json())["key"] != self.key:
                raise ProblemError(401, "unauthorized", "This key is not valid.")
            response = Response(status_code=204)
            response.set_cookie("dovetail_key", str(self.key), httponly=True, samesite="strict")
            return response

        @router.delete("/session")
        async def sign_out() -> Response:
            response = Response(status_code=204)
            response.delete_cookie("dovetail_key")
            return response

        @router.get("/models")
        async def models() -> dict[str, Any]:
            nano = example("ModelSchema", id="dovetail-dit-nano", kind="diffusion", megapixels_per_second=1.2)
            other = {"is_default": False, "available": False, "megapixels_per_second": None}
            return {"object": "list", "data": [nano, {**nano, "id": "dove", **other}]}

        @router.post("/estimate")
        async def estimate(request: Request) -> dict[str, Any]:
            options = (await request.json())["options"]
            if options.get("height") == 2160:
                raise ProblemError(422, "invalid_request", "2160 rows are more than this server makes.")
            scale = options.get("scale", SCALE)
            output: dict[str, Any] = {"width": round(WIDTH * scale), "height": round(HEIGHT * scale)}
            frames = min(NUM_FRAMES, round(FPS * options.get("duration_seconds", 3600)))
            return example("EstimateSchema", frames=frames, output=output, seconds=frames / 3.4)

        return router


async def _work(job: FakeJob) -> None:
    for _ in job.clip.segments:
        await asyncio.sleep(0.3)
        job.publish()
    job.complete()


async def _events(job: FakeJob, first: int) -> AsyncIterator[str]:
    yield "retry: 300\n\n"
    for number in itertools.count(first):
        while number >= len(job.events):
            await asyncio.sleep(_POLL_SECONDS)
        name, state = job.events[number]
        data = json.dumps({"type": name, "at": state["updated_at"], "detail": {}, "job": state})
        yield f"id: {number + 1}\nevent: {name}\ndata: {data}\n\n"
        if state["status"] in FINAL and number == len(job.events) - 1:
            return


async def _grow(job: FakeJob) -> AsyncIterator[bytes]:
    for index, segment in enumerate(job.clip.segments):
        while index >= job.num_segments:
            await asyncio.sleep(_POLL_SECONDS)
        yield segment[job.clip.init_sizes[index] if index else 0 :]


def _ranged(request: Request, data: bytes) -> Response:
    headers = {"Accept-Ranges": "bytes"}
    asked = request.headers.get("Range")
    if asked is None:
        return Response(data, media_type="video/mp4", headers=headers)
    first, last = asked.removeprefix("bytes=").split("-")
    start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
    headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
    return Response(data[start : end + 1], 206, media_type="video/mp4", headers=headers)


def _answer_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    body = example("Problem", title=error.code, status=error.status, detail=str(error), code=error.code)
    return JSONResponse(body, error.status, headers=error.headers, media_type="application/problem+json")


def _time(number: int, num_changes: int = 0) -> str:
    return (_EPOCH + timedelta(minutes=number, seconds=num_changes)).isoformat()
