"""A job whose result is a still: nothing plays, and whole pictures are compared."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.web.conftest import TIMES, Site, wait_until
from tests.web.fake_api import FakeApi, FakeJob

BEFORE = "document.querySelector('.layer-before img')"
AFTER = "document.querySelector('.layer-after img')"
ALONE = "document.querySelector('#watch img')"


def png(width: int, height: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGBA", (width, height), (200, 40, 40, 90)).save(content, "PNG")
    return content.getvalue()


def picture_job(fake: FakeApi, kind: str) -> FakeJob:
    job = fake.add_job(f"photo.{kind}")
    found = {"width": 30, "height": 40, "rotation": -90, "picture": kind, "duration_seconds": None}
    options = {**job.state["options"], "container": kind}
    job.change("status", input={**job.state["input"], **found}, options=options, total_frames=1)
    return job


@pytest.fixture
def pictures(page: Page) -> None:
    page.route("**/source", lambda route: route.fulfill(body=png(40, 30), content_type="image/png"))
    page.route("**/content", lambda route: route.fulfill(body=png(160, 120), content_type="image/png"))


@pytest.mark.usefixtures("pictures")
def test_a_picture_is_compared_whole_and_shown_alone(page: Page, fake: FakeApi, site: Site) -> None:
    job = picture_job(fake, "png")
    job.complete()
    page.goto(f"{site.url}/#{job.id}")
    wait_until(page, f"{BEFORE}?.naturalWidth === 40 && {AFTER}?.naturalWidth === 160")
    expect(page.locator("#job-facts")).to_contain_text(f"40 {TIMES} 30")
    expect(page.get_by_role("button", name="Play")).to_be_hidden()
    box = page.locator("#stage").bounding_box()
    assert box is not None
    assert box["width"] / box["height"] == pytest.approx(4 / 3, abs=0.02)
    page.get_by_role("button", name="Result").click()
    wait_until(page, f"{ALONE}?.naturalWidth === 160")
    assert page.locator("video").count() == 0


@pytest.mark.usefixtures("pictures")
def test_nothing_plays_while_a_picture_is_made(page: Page, fake: FakeApi, site: Site) -> None:
    job = picture_job(fake, "png")
    page.goto(f"{site.url}/#{job.id}")
    expect(page.locator("#placeholder img")).to_have_count(1)
    job.publish()
    expect(page.get_by_text("The sharp picture appears here in a moment.")).to_be_visible()
    assert page.locator("video").count() == 0
    job.complete()
    wait_until(page, f"{ALONE}?.naturalWidth === 160")


def test_a_kind_that_the_browser_does_not_know_is_shown_as_smaller_copies(
    page: Page, fake: FakeApi, site: Site
) -> None:
    for name in ("source", "content"):
        page.route(f"**/{name}", lambda route: route.fulfill(body=b"II*\0rest", content_type="image/tiff"))
    job = picture_job(fake, "tiff")
    job.complete()
    page.goto(f"{site.url}/#{job.id}")
    expect(page.get_by_text("This browser cannot show")).to_be_visible()
    expect(page.get_by_alt_text("The original, one frame")).to_be_visible()
    page.get_by_role("button", name="Result").click()
    expect(page.get_by_text("this is a smaller copy")).to_be_visible()
    wait_until(page, f"{ALONE}?.naturalWidth > 0")
