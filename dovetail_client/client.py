"""The client that blocks: a thin face of the same methods."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

import httpx

from dovetail_client._api import Api
from dovetail_client._batches import BatchMethods
from dovetail_client._http import iterate, run
from dovetail_client._jobs import JobMethods
from dovetail_client._keys import KeyMethods
from dovetail_client._service import ServiceMethods
from dovetail_client._settings import http_arguments

P = ParamSpec("P")
T = TypeVar("T")
M_co = TypeVar("M_co", covariant=True)


class _Methods(JobMethods, BatchMethods, ServiceMethods):
    """All of them."""


class _Face(Generic[M_co]):
    """Methods that are to be called without awaiting."""

    def __init__(self, methods: M_co) -> None:
        self._methods = methods


def _blocking(
    method: Callable[Concatenate[M_co, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Face[M_co], P], T]:
    @functools.wraps(method)
    def call(self: _Face[M_co], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(method(self._methods, *args, **kwargs))

    return call


def _iterating(
    method: Callable[Concatenate[M_co, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[_Face[M_co], P], Generator[T, None, None]]:
    @functools.wraps(method)
    def call(self: _Face[M_co], /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return iterate(method(self._methods, *args, **kwargs))

    return call


class Keys(_Face[KeyMethods]):
    """API keys of a service, for keys of the scope `admin`."""

    create = _blocking(KeyMethods.create)
    list = _blocking(KeyMethods.list)
    revoke = _blocking(KeyMethods.revoke)


class Dovetail(_Face[_Methods]):
    """A Dovetail service. Jobs, batches and uploads are given as such or by their ids.

    Requests that may be repeated are, after connection errors and answers 429, 502, 503 and 504, as late as
    the service asks for. A submission carries a key, so that a repetition never makes a second job.

    Args:
        base_url: Of the service; by default the environment's DOVETAIL_URL, or port 8000 of this machine.
        api_key: By default the environment's DOVETAIL_API_KEY; none is needed where the service wants none.
        timeout: Seconds of silence before a request counts as failed.
        max_retries: How often a request is repeated, and how many failures in a row a transfer bears.
        sleep: Waits so many seconds.
        clock: Seconds that only grow.

    Raises:
        ValueError: If the URL is none, or the key could not be sent.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        client = httpx.Client(**http_arguments(base_url, api_key, timeout))
        self._api = Api(client, max_retries=max_retries, clock=clock, sleep=sleep)
        super().__init__(_Methods(self._api))
        self.keys = Keys(KeyMethods(self._api))

    def close(self) -> None:
        """Closes its connections."""
        run(self._api.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    submit = _blocking(JobMethods.submit)
    get = _blocking(JobMethods.get)
    list = _iterating(JobMethods.list)
    cancel = _blocking(JobMethods.cancel)
    retry = _blocking(JobMethods.retry)
    delete = _blocking(JobMethods.delete)
    deliver = _blocking(JobMethods.deliver)
    wait = _blocking(JobMethods.wait)
    events = _iterating(JobMethods.events)
    download = _blocking(JobMethods.download)
    create_batch = _blocking(BatchMethods.create_batch)
    get_batch = _blocking(BatchMethods.get_batch)
    list_batches = _iterating(BatchMethods.list_batches)
    cancel_batch = _blocking(BatchMethods.cancel_batch)
    delete_batch = _blocking(BatchMethods.delete_batch)
    wait_batch = _blocking(BatchMethods.wait_batch)
    batch_results = _blocking(BatchMethods.batch_results)
    download_batch = _blocking(BatchMethods.download_batch)
    upload = _blocking(ServiceMethods.upload)
    get_upload = _blocking(ServiceMethods.get_upload)
    delete_upload = _blocking(ServiceMethods.delete_upload)
    webhook_secret = _blocking(ServiceMethods.webhook_secret)
    rotate_webhook_secret = _blocking(ServiceMethods.rotate_webhook_secret)
    deliveries = _blocking(ServiceMethods.deliveries)
    redeliver = _blocking(ServiceMethods.redeliver)
    estimate = _blocking(ServiceMethods.estimate)
    models = _blocking(ServiceMethods.models)
    me = _blocking(ServiceMethods.me)
