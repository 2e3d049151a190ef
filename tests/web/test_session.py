"""Servers that need a key."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.web.conftest import Site, Watch, wait_until
from tests.web.fake_api import FakeApi

KEY = "dv_correct"


@pytest.fixture(autouse=True)
def key_is_needed(fake: FakeApi, watch: Watch) -> None:
    fake.key = KEY
    watch.allowed.append("401 (Unauthorized)")


def sign_in(page: Page, key: str = KEY) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_key_is_asked_for_and_opens_everything(
    page: Page, fake: FakeApi, site: Site, clip_file: Path
) -> None:
    page.goto(site.url)
    dialog = page.get_by_role("dialog", name="Enter your key")
    expect(page.get_by_label("API key")).to_be_focused()
    sign_in(page, "dv_wrong")
    expect(page.get_by_role("alert")).to_have_text("This key is not valid.")
    sign_in(page)
    expect(dialog).to_be_hidden()
    expect(page.get_by_text("Ada")).to_be_visible()
    # Uploads and jobs by the key itself, events and media by the cookie.
    page.locator("#file-input").set_input_files(str(clip_file))
    page.get_by_role("button", name="Upscale").click()
    page.wait_for_url("**/#job_*")
    job = next(iter(fake.jobs.values()))
    job.complete()
    expect(page.locator("#state")).to_have_text("Finished")
    page.get_by_role("button", name="Before and after").click()
    wait_until(page, "document.querySelector('.layer-before video')?.readyState >= 2")


def test_reload_keeps_the_session_and_signing_out_ends_it(page: Page, site: Site) -> None:
    page.goto(site.url)
    sign_in(page)
    expect(page.get_by_text("Ada")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Ada")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("dialog", name="Enter your key")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    assert page.context.cookies() == []


def test_new_tab_asks_for_the_key_when_something_is_to_be_changed(
    page: Page, fake: FakeApi, site: Site
) -> None:
    job = fake.add_job()
    page.goto(f"{site.url}/#{job.id}")
    sign_in(page)
    expect(page.get_by_role("heading", name="clip.mp4")).to_be_visible()
    page.evaluate("sessionStorage.clear()")
    page.reload()
    page.get_by_role("button", name="Cancel").click()
    sign_in(page)
    expect(page.locator("#state")).to_have_text("Cancelled")


def test_key_is_neither_in_the_address_nor_kept_for_ever(page: Page, site: Site) -> None:
    page.goto(site.url)
    sign_in(page)
    expect(page.get_by_text("Ada")).to_be_visible()
    assert KEY not in page.url
    assert page.evaluate("localStorage.length") == 0
    assert page.evaluate("document.cookie") == ""


def test_dialog_that_was_closed_can_be_opened_again(page: Page, site: Site) -> None:
    page.goto(site.url)
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("dialog", name="Enter your key")).to_be_visible()
