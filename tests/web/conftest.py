"""A browser, a server for the page, and an eye on everything that goes wrong in it.

Tests that only need a server that works take `site`; with DOVETAIL_WEB_URL (such as that of `dovetail serve`)
they run against that one. Tests that turn the knobs of the fake take `fake`, and are skipped then.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    expect,
    sync_playwright,
)
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.web.fake_api import FakeApi
from tests.web.line import Line
from tests.web.made import Clip, make_clip

# The shell takes 0.56 of the processor time of the browser with its windows.
_BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")
BROWSER = os.environ.get("DOVETAIL_BROWSER") or next(filter(None, map(shutil.which, _BROWSERS)), None)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",  # needed as root, which CI is
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 15_000
expect.set_options(timeout=TIMEOUT_MS)
TIMES = "\N{MULTIPLICATION SIGN}"

# Collects what a page never may do. Runs before the page's own scripts.
_WATCH_POLICY = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
});
"""


@dataclass
class Site:
    """A server with the page, behind a line that can be cut."""

    url: str
    line: Line


@dataclass
class Watch:
    """What went wrong on a page; `allowed` are parts of messages that a test expects."""

    allowed: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def note(self, message: str) -> None:
        """Keep a message unless it is expected."""
        if not any(part in message for part in self.allowed):
            self.messages.append(message)


def wait_until(page: Page, expression: str, *, seconds: float = TIMEOUT_MS / 1000) -> None:
    """Wait until JavaScript is true. Playwright's own wait uses eval, which the policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never came true: {expression}"
        page.wait_for_timeout(20)


@pytest.fixture(scope="package")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """What jobs are made of."""
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="package")
def playwright_driver() -> Iterator[Playwright]:
    """One for all tests: it starts a process."""
    if BROWSER is None:
        reason = "there is no Chromium: run scripts/install_test_tools.sh, or name one in DOVETAIL_BROWSER"
        if os.environ.get("DOVETAIL_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="package")
def browser(playwright_driver: Playwright) -> Iterator[Browser]:
    """Debian's, which plays H.264."""
    browser = playwright_driver.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
    yield browser
    browser.close()


@pytest.fixture
def fake(clip: Clip) -> Iterator[FakeApi]:
    """The knobs of the fake API that `site` is. It answers as the real one does, or the test fails."""
    if "DOVETAIL_WEB_URL" in os.environ:
        pytest.skip("this test turns knobs that a real server does not have")
    fake = FakeApi(clip)
    yield fake
    assert fake.app.violations == []


class _Switch:
    """An ASGI app that is whichever app is plugged in: starting a server for each test would take longer."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="package")
def switch() -> Iterator[tuple[_Switch, int]]:
    """A running server, and its port."""
    switch = _Switch()
    server = uvicorn.Server(uvicorn.Config(switch, port=0, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    yield switch, server.servers[0].sockets[0].getsockname()[1]
    # Streams of unfinished jobs have no end to wait for.
    server.should_exit = server.force_exit = True
    thread.join(timeout=10)


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The fake API with its data of this test only, or the server named by DOVETAIL_WEB_URL."""
    real = os.environ.get("DOVETAIL_WEB_URL")
    if real:
        port = urlsplit(real).port or 80
    else:
        is_by_hand = "fake" in request.fixturenames
        api: FakeApi = request.getfixturevalue("fake")
        api.does_work = not is_by_hand
        switch, port = request.getfixturevalue("switch")
        switch.app = api.app
    # A port of its own for each test: nothing that a browser keeps is found by the next one.
    with Line(port) as line:
        yield Site(f"http://127.0.0.1:{line.port}", line)


@pytest.fixture
def watch() -> Watch:
    """Errors of the page, checked when the test is over."""
    return Watch()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A fresh profile."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, reduced_motion="no-preference")
    context.set_default_timeout(TIMEOUT_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, site: Site, watch: Watch) -> Iterator[Page]:
    """A page that is not open yet. Errors on the console and violations of the policy fail the test."""
    page = context.new_page()
    page.add_init_script(_WATCH_POLICY)

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            watch.note(f"{message.type}: {message.text} {message.location.get('url')}")

    page.on("console", note)
    page.on("pageerror", lambda error: watch.note(f"thrown: {error}"))
    page.on("dialog", lambda dialog: dialog.accept())
    yield page
    violations = page.evaluate("window.violations ?? []")
    assert violations == []
    assert watch.messages == []


@pytest.fixture
def clip_file(clip: Clip) -> Path:
    """A video to upload."""
    return clip.source
