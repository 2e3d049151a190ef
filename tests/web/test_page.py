"""The page itself: its headers, its manners with others' text, its accessibility."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import FilePayload, Page, expect

from jobs.settings import ServiceSettings
from service import web
from service.app import create_app
from tests.web.conftest import TIMES, Site, Watch, wait_until
from tests.web.fake_api import FakeApi

HOSTILE = "<img src=x onerror=alert(1)>.mp4"
LONG = "a_very_long_name_without_any_space_" * 3 + ".mp4"

# What a control is called, roughly as browsers work it out: enough to find one without a name.
UNNAMED = """() => [...document.querySelectorAll("button, a, input, select, video, [role=slider], .bar")]
  .filter((element) => element.checkVisibility() && !element.closest("[aria-hidden=true]"))
  .filter((element) => !(
    element.getAttribute("aria-label") || element.textContent.trim() || [...(element.labels ?? [])].length
  ))
  .map((element) => element.outerHTML)"""
DUPLICATE_IDS = """() => [...document.querySelectorAll("[id]")].map((element) => element.id)
  .filter((id, index, ids) => ids.indexOf(id) !== index)"""
DANGLING = """() => [...document.querySelectorAll("[aria-labelledby], [aria-describedby], label[for]")]
  .flatMap((element) => [
    element.getAttribute("aria-labelledby"),
    element.getAttribute("aria-describedby"),
    element.getAttribute("for"),
  ])
  .filter((id) => id && !document.getElementById(id))"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALL_TARGETS = """() => [...document.querySelectorAll("button, select, .button, [role=slider]")]
  .filter((element) => element.checkVisibility())
  .map((element) => [element.outerHTML.slice(0, 80), element.getBoundingClientRect()])
  .filter(([, box]) => box.width < 24 || box.height < 24)"""


def payload(name: str) -> FilePayload:
    return {"name": name, "mimeType": "video/mp4", "buffer": b"x"}


@pytest.fixture
def client() -> TestClient:
    """An app that has nothing but the page."""
    app = FastAPI(docs_url=None, redoc_url=None)
    web.mount(app)
    return TestClient(app)


@pytest.fixture
def settings_of_nothing(tmp_path: Path) -> ServiceSettings:
    """For an app that is asked for nothing that needs Redis."""
    return ServiceSettings(data_dir=tmp_path, redis_url="redis://127.0.0.1:1/0")


def test_page_and_its_files_come_with_strict_headers(client: TestClient) -> None:
    for path in ("/", "/static/main.js", "/static/style.css", "/static/icon.svg"):
        response = client.get(path)
        assert response.status_code == 200
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Cache-Control"] == "no-cache"
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "*" not in policy
    assert client.get("/static/main.js").headers["Content-Type"] == "text/javascript; charset=utf-8"


def test_description_of_the_api_and_its_files_come_with_strict_headers(client: TestClient) -> None:
    for path in ("/docs", "/docs/docs.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"):
        response = client.get(path)
        assert response.status_code == 200
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; ")
        assert "unsafe-eval" not in policy
        assert "http" not in policy
    page = client.get("/docs").text
    assert re.findall(r"""(?:src|href)="(?!/)""", page) == []
    assert "<script>" not in page
    assert client.get("/docs/__init__.py").status_code == 404


def test_description_of_the_api_works_and_loads_nothing_from_elsewhere(
    page: Page, site: Site, switch: tuple[Any, int], settings_of_nothing: ServiceSettings
) -> None:
    switch[0].app = create_app(settings_of_nothing, uses_keys=False)
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.goto(f"{site.url}/docs")
    expect(page.get_by_text("List models")).to_be_visible()
    expect(page.get_by_text("Get a new webhook secret")).to_be_visible()
    assert [url for url in urls if not url.startswith((site.url, "data:"))] == []


def test_no_other_description_loads_scripts_of_other_sites(settings_of_nothing: ServiceSettings) -> None:
    client = TestClient(create_app(settings_of_nothing, uses_keys=False))
    assert client.get("/redoc").status_code == 404
    assert "cdn" not in client.get("/docs").text


def test_unchanged_file_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/static/main.js").headers["ETag"]
    assert tag != client.get("/static/dom.js").headers["ETag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        response = client.get("/static/main.js", headers={"If-None-Match": known})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["ETag"] == tag
    assert client.get("/static/main.js", headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_tells_what_get_would(client: TestClient) -> None:
    head, get = client.head("/"), client.get("/")
    assert head.content == b""
    assert head.headers == get.headers


@pytest.mark.parametrize("name", ["nothing.js", "..%2F__init__.py", "%2e%2e/__init__.py", "__init__.py", ""])
def test_nothing_but_the_files_of_the_page_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_page_is_not_part_of_the_documented_api(client: TestClient) -> None:
    assert client.get("/openapi.json").json()["paths"] == {}


def test_page_loads_nothing_from_elsewhere(page: Page, fake: FakeApi, site: Site) -> None:
    fake.add_job().complete()
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.goto(f"{site.url}/#{next(iter(fake.jobs))}")
    wait_until(page, "document.querySelector('.layer-after video')?.readyState >= 2")
    assert urls
    assert [url for url in urls if not url.startswith((site.url, f"blob:{site.url}"))] == []


def test_text_of_others_is_never_markup(page: Page, fake: FakeApi, site: Site) -> None:
    job = fake.add_job(HOSTILE)
    page.goto(f"{site.url}/#{job.id}")
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    job.change("warning", warnings=[f"warning {HOSTILE}"])
    job.fail("x", f"error {HOSTILE}")
    expect(page.get_by_role("alert")).to_contain_text(f"error {HOSTILE}")
    page.get_by_text("1 note about this video").click()
    expect(page.get_by_text(f"warning {HOSTILE}")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text(f"Delete {HOSTILE}?")
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("link", name="New").click()
    page.locator("#file-input").set_input_files(payload(HOSTILE))
    expect(page.locator(".item-name")).to_have_text(HOSTILE)
    expect(page.get_by_text("uploaded")).to_be_visible()
    assert page.locator("img[src=x]").count() == 0


def test_markup_cannot_be_written_even_by_mistake(page: Page, site: Site, watch: Watch) -> None:
    watch.allowed.append("TrustedHTML")
    page.goto(site.url)
    write = "() => { try { document.body.innerHTML = '<b>x</b>'; } catch (error) { return error.name; } }"
    assert page.evaluate(write) == "TypeError"
    page.evaluate("window.violations = []")  # the one that was wanted


def test_every_view_fits_a_telephone_and_names_its_controls(page: Page, fake: FakeApi, site: Site) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(site.url)
    expect(page.get_by_text("Drop videos here")).to_be_visible()
    check_view(page)
    page.locator("#file-input").set_input_files(payload(LONG))
    page.get_by_text("More options").click()
    page.get_by_label("Part").select_option("From … for …")
    check_view(page)
    page.get_by_role("button", name="Remove").click()

    failed = fake.add_job(LONG)
    failed.fail("no_frames", "x" * 200)
    page.goto(f"{site.url}/#{failed.id}")
    expect(page.locator("#state")).to_have_text("Failed")
    check_view(page)

    job = fake.add_job(LONG)
    page.goto(f"{site.url}/#{job.id}")
    job.publish()
    expect(page.locator("#state")).to_have_text("Working")
    check_view(page)
    job.complete()
    expect(page.locator("#state")).to_have_text("Finished")
    page.get_by_role("button", name="Before and after").click()
    wait_until(page, "document.querySelector('.layer-after video')?.readyState >= 2")
    check_view(page)
    page.get_by_role("button", name="Delete").click()
    check_view(page)


def check_view(page: Page) -> None:
    assert page.evaluate(OVERFLOW) == 0
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate(DUPLICATE_IDS) == []
    assert page.evaluate(DANGLING) == []
    assert page.evaluate(SMALL_TARGETS) == []
    assert page.locator("h1:visible").count() == 1


def test_page_can_be_used_by_keyboard_alone(page: Page, fake: FakeApi, site: Site) -> None:
    job = fake.add_job()
    job.complete()
    page.goto(f"{site.url}/#{job.id}")
    expect(page.get_by_role("link", name="Download")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(page.get_by_role("link", name="Download")).to_be_visible()  # the anchor is not a view
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent.trim()")
        )
        outline = page.evaluate(
            "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])"
            "(getComputedStyle(document.activeElement.querySelector('.grip') ?? document.activeElement))"
        )
        assert outline == ["solid", "3px"], reached
    names = ["Download", "Delete", "Before and after", "Result", "Divider between before and after", "Play"]
    assert reached == [*names, "Position", f"Zoom: 1{TIMES}", "Full screen"]


def test_file_dialog_opens_by_keyboard(page: Page, site: Site) -> None:
    # Nobody waits until the browser has been told to hand dialogs over: so not right before the key.
    page.on("filechooser", lambda _: None)
    page.goto(site.url)
    expect(page.get_by_text("Drop videos here")).to_be_visible()
    for _ in range(4):
        page.keyboard.press("Tab")
    expect(page.locator("#file-input")).to_be_focused()
    label = page.get_by_text("Choose videos")
    assert label.evaluate("label => getComputedStyle(label).outlineStyle") == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    assert chooser.value.is_multiple()


def test_nothing_moves_while_the_page_loads(page: Page, fake: FakeApi, site: Site) -> None:
    page.add_init_script(
        """window.shift = 0;
        new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) window.shift += entry.value;
        }).observe({ type: "layout-shift", buffered: true });"""
    )
    job = fake.add_job()
    job.complete()
    page.goto(f"{site.url}/#{job.id}")
    wait_until(page, "document.querySelector('.layer-after video')?.readyState >= 2")
    page.wait_for_timeout(200)
    assert page.evaluate("window.shift") < 0.02
