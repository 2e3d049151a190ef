"""The list of jobs."""

from __future__ import annotations

import io

from PIL import Image
from playwright.sync_api import Page, expect

from tests.web.conftest import Site, Watch
from tests.web.fake_api import FakeApi, ProblemError


def test_filter_shows_jobs_of_a_state(page: Page, fake: FakeApi, site: Site) -> None:
    fake.add_job("finished.mp4").complete()
    fake.add_job("failed.mp4").fail("no_video", "There is no video.")
    running = fake.add_job("running.mp4")
    running.publish()
    page.goto(site.url)
    names = page.locator(".job-name")
    expect(names).to_have_text(["running.mp4", "failed.mp4", "finished.mp4"])
    page.get_by_label("Show").select_option("Finished")
    expect(names).to_have_text(["finished.mp4"])
    page.get_by_label("Show").select_option("Failed or cancelled")
    expect(names).to_have_text(["failed.mp4"])
    page.get_by_label("Show").select_option("In progress")
    expect(names).to_have_text(["running.mp4"])
    running.complete()
    expect(page.get_by_text("No videos of this kind.")).to_be_visible()
    page.get_by_label("Show").select_option("All")
    expect(names).to_have_count(3)


def test_older_jobs_are_loaded_when_asked_for(page: Page, fake: FakeApi, site: Site) -> None:
    for number in range(45):
        fake.add_job(f"{number}.mp4").complete()
    page.goto(site.url)
    links = page.locator(".job-link")
    expect(links).to_have_count(20)
    more = page.get_by_role("button", name="Load more")
    more.click()
    expect(links).to_have_count(40)
    expect(links.nth(20)).to_be_focused()
    more.click()
    expect(links).to_have_count(45)
    expect(more).to_be_hidden()
    names = [f"{number}.mp4" for number in reversed(range(45))]
    assert page.locator(".job-name").all_text_contents() == names


def test_list_follows_jobs_that_are_not_open(page: Page, fake: FakeApi, site: Site) -> None:
    job = fake.add_job()
    page.goto(site.url)
    expect(page.locator(".job-sub")).to_have_text("Waiting, place 1")
    job.publish(2)
    other = fake.add_job("from elsewhere.mp4")
    expect(page.locator(".job-sub")).to_have_text(["Waiting, place 1", "25 % · 24 frames"])
    del fake.jobs[other.id]
    job.complete()
    expect(page.locator(".job-name")).to_have_text(["clip.mp4"])
    expect(page.locator(".thumb img")).to_be_visible()


def test_a_tall_picture_is_shown_by_its_middle(page: Page, fake: FakeApi, site: Site) -> None:
    tall = io.BytesIO()
    Image.new("RGB", (90, 160), "teal").save(tall, "JPEG")
    page.route(
        "**/preview.jpg*", lambda route: route.fulfill(body=tall.getvalue(), content_type="image/jpeg")
    )
    fake.add_job().complete()
    page.goto(site.url)
    expect(page.locator(".thumb img")).to_have_js_property("naturalHeight", 160)
    # All of the place and no more: else its upper part would be shown.
    place, picture = (page.locator(found).bounding_box() for found in (".thumb", ".thumb img"))
    assert place == picture


def test_address_names_the_open_job(page: Page, fake: FakeApi, site: Site) -> None:
    first, second = fake.add_job("first.mp4"), fake.add_job("second.mp4")
    page.goto(f"{site.url}/#{first.id}")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("first.mp4")
    page.get_by_role("link", name="second.mp4").click()
    expect(heading).to_have_text("second.mp4")
    expect(page.locator("[aria-current=page]")).to_contain_text("second.mp4")
    assert page.url.endswith(second.id)
    page.go_back()
    expect(heading).to_have_text("first.mp4")
    page.get_by_role("link", name="New").click()
    expect(heading).to_have_text("Make a soft video sharp")
    expect(page.locator("[aria-current=page]")).to_have_count(0)


def test_list_that_does_not_load_says_why(page: Page, fake: FakeApi, site: Site, watch: Watch) -> None:
    watch.allowed.append("503")
    fake.refusals["GET", "/v1/jobs"] = ProblemError(503, "unavailable", "The job store does not answer.")
    page.goto(site.url)
    expect(page.get_by_role("alert")).to_contain_text("The job store does not answer.")
    expect(page.get_by_text("Drop videos here")).to_be_visible()
