"""The whole way of a video; with DOVETAIL_WEB_URL on a real server."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.web.conftest import Site, wait_until
from tests.web.made import encode_long

GROWING = "document.querySelector('#watch video')"
BEFORE = "document.querySelector('.layer-before video')"
AFTER = "document.querySelector('.layer-after video')"
WORK_SECONDS = 240


def test_video_is_uploaded_watched_while_it_grows_compared_and_deleted(
    page: Page, site: Site, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    encode_long(path)
    page.goto(site.url)
    page.locator("#file-input").set_input_files(str(path))
    expect(page.locator(".item-estimate")).to_contain_text(" frames")
    page.get_by_role("button", name="Upscale").click()
    page.wait_for_url("**/#job_*")
    expect(page.get_by_role("heading", name="clip.mp4")).to_be_visible()

    is_working = "document.getElementById('state').dataset.state === 'in_progress'"
    wait_until(page, f"{is_working} && {GROWING}?.currentTime > 0", seconds=WORK_SECONDS)
    expect(page.locator("#state")).to_have_text("Finished", timeout=WORK_SECONDS * 1000)
    wait_until(page, f"{GROWING}.src.includes('/content')")

    page.get_by_role("button", name="Before and after").click()
    wait_until(page, f"{BEFORE}?.readyState >= 2 && {AFTER}?.readyState >= 2")
    page.get_by_role("slider", name="Position").fill("0")
    page.get_by_role("button", name="Play").click()
    wait_until(page, f"{AFTER}.currentTime > 1")
    assert page.evaluate(f"Math.abs({BEFORE}.currentTime - {AFTER}.currentTime)") < 0.1

    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes()[4:8] == b"ftyp"
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Make a soft video sharp")).to_be_visible()
