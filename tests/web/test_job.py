"""One job: its progress, its result while it grows, and what can be done with it."""

from __future__ import annotations

from dataclasses import replace

from playwright.sync_api import Page, expect

from tests.web.conftest import TIMES, Site, Watch, wait_until
from tests.web.fake_api import FakeApi, FakeJob

PLAYING = "document.querySelector('#watch video')"


def open_job(page: Page, site: Site, job: FakeJob) -> None:
    page.goto(f"{site.url}/#{job.id}")
    expect(page.get_by_role("heading", level=1)).to_have_text(job.state["input"]["filename"])


def test_progress_of_a_job_is_live(page: Page, fake: FakeApi, site: Site) -> None:
    job = fake.add_job(queue_position=2)
    open_job(page, site, job)
    status = page.locator("#status-text")
    expect(status).to_have_text("2nd in the queue")
    job.change("status", queue_position=1)
    expect(status).to_have_text("Next in the queue")
    job.change("status", status="in_progress", stage="planning", queue_position=None)
    expect(status).to_have_text("Reading the video")
    job.publish(2)
    expect(status).to_have_text("Upscaling · 24 of 96 frames · 3.4 frames/s · about 25 s left")
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
    expect(page.locator("#percent")).to_have_text("25 %")
    expect(page).to_have_title("25 % clip.mp4 · Dovetail")
    job.change("warning", warnings=["2 frames were missing"])
    page.get_by_text("1 note about this video").click()
    expect(page.get_by_text("2 frames were missing")).to_be_visible()
    job.change("progress", stage="joining")
    expect(status).to_have_text("Putting it together with the sound")
    job.complete()
    expect(page.locator("#state")).to_have_text("Finished")
    expect(page.locator("#job-facts")).to_contain_text(f"160 {TIMES} 90 → 320 {TIMES} 180")


def test_a_job_whose_address_is_still_being_fetched_shows_what_is_known(
    page: Page, fake: FakeApi, site: Site
) -> None:
    job = fake.add_job(queue_position=1)
    known = job.state["input"]
    unknown = dict.fromkeys(known) | {"filename": "clip.mp4", "rotation": 0, "has_audio": False}
    job.change("status", stage="fetching", input=unknown)
    open_job(page, site, job)
    expect(page.locator("#status-text")).to_have_text("Fetching the video")
    expect(page.locator("#placeholder-text")).to_have_text("The video is being fetched from its address.")
    expect(page.locator("#placeholder video")).to_have_count(0)
    expect(page.locator("#job-facts")).not_to_contain_text(TIMES)
    expect(page.locator(".job-sub").first).to_have_text("Fetching the video")
    job.change("status", stage=None, input=known)
    expect(page.locator("#status-text")).to_have_text("Next in the queue")
    expect(page.locator("#placeholder video")).to_have_count(1)
    expect(page.locator("#job-facts")).to_contain_text(f"160 {TIMES} 90")


def test_older_news_does_not_undo_newer(page: Page, fake: FakeApi, site: Site) -> None:
    job = fake.add_job()
    job.publish(4)  # events are replayed from the first one
    open_job(page, site, job)
    page.evaluate(
        """() => {
          const percent = document.getElementById("percent");
          window.seen = [];
          new MutationObserver(() => window.seen.push(percent.textContent))
            .observe(percent, { childList: true, characterData: true, subtree: true });
        }"""
    )
    job.publish()
    expect(page.locator("#percent")).to_have_text("62 %")
    assert set(page.evaluate("window.seen")) <= {"50 %", "62 %"}


def test_progress_comes_without_events_too(page: Page, fake: FakeApi, site: Site, watch: Watch) -> None:
    watch.allowed.append("503")
    fake.has_events = False
    job = fake.add_job()
    open_job(page, site, job)
    job.publish()
    expect(page.locator("#percent")).to_have_text("12 %")


def test_result_plays_while_it_grows_and_goes_on_in_the_finished_file(
    page: Page, fake: FakeApi, site: Site
) -> None:
    job = fake.add_job()
    open_job(page, site, job)
    expect(page.locator("#placeholder")).to_be_visible()
    job.publish()
    wait_until(page, f"{PLAYING}?.currentTime > 0.3")
    assert fake.jobs[job.id].state["status"] == "in_progress"
    # It plays to the end of what there is, says so, and goes on with what comes.
    expect(page.get_by_text("Caught up.")).to_be_visible()
    job.publish(2)
    wait_until(page, f"{PLAYING}.currentTime > 1.2")
    assert page.evaluate(f"{PLAYING}.duration") == 4  # the seek bar shows how much of it is there
    job.complete()
    wait_until(page, f"{PLAYING}.src.endsWith('/content')")
    assert page.evaluate(f"{PLAYING}.currentTime") > 1.2
    assert page.locator("#watch video").count() == 1
    wait_until(page, f"{PLAYING}.currentTime > 3")


def test_broken_connection_stops_neither_news_nor_the_growing_result(
    page: Page, fake: FakeApi, site: Site, watch: Watch
) -> None:
    watch.allowed.append("net::ERR_")
    job = fake.add_job()
    job.publish(2)
    open_job(page, site, job)
    wait_until(page, f"{PLAYING}?.currentTime > 0.3")
    site.line.cut()
    expect(page.get_by_text("Connection lost, trying again")).to_be_visible()
    job.publish(2)
    expect(page.locator("#percent")).to_have_text("50 %")
    wait_until(page, f"{PLAYING}.currentTime > 1.6")


def test_result_in_a_codec_that_the_browser_lacks_is_said_to_be_so(
    page: Page, fake: FakeApi, site: Site
) -> None:
    fake.clip = replace(fake.clip, codecs="hvc1.1.6.L93.B0")
    job = fake.add_job()
    job.publish()
    open_job(page, site, job)
    expect(page.get_by_text("This browser cannot play the result's codec.")).to_be_visible()


def test_nothing_plays_by_itself_for_those_who_want_stillness(page: Page, fake: FakeApi, site: Site) -> None:
    page.emulate_media(reduced_motion="reduce")
    job = fake.add_job()
    job.publish(8)
    open_job(page, site, job)
    wait_until(page, f"{PLAYING}?.readyState >= 2")
    page.wait_for_timeout(300)
    assert page.evaluate(f"{PLAYING}.paused")


def test_frames_can_be_compared_before_the_result_is_finished(page: Page, fake: FakeApi, site: Site) -> None:
    job = fake.add_job()
    job.publish()
    open_job(page, site, job)
    page.get_by_role("button", name="Before and after").click()
    expect(page.get_by_alt_text("The original, one frame")).to_be_visible()
    assert page.get_by_alt_text("The result, the same frame").evaluate("image => image.naturalWidth") == 320
    expect(page.get_by_text("It becomes a video when the job is done.")).to_be_visible()
    job.complete()
    expect(page.get_by_label("Original", exact=True)).to_be_visible()


def test_failed_job_says_why_and_what_to_do(page: Page, fake: FakeApi, site: Site) -> None:
    job = fake.add_job()
    open_job(page, site, job)
    job.fail("unsupported_codec", "The video is encoded with indeo3, which is not supported.")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The video is encoded with indeo3, which is not supported.")
    expect(alert).to_contain_text("Convert the video to H.264 (MP4)")
    page.get_by_role("button", name="Try again").click()
    expect(alert).to_be_hidden()
    expect(page.locator("#state")).to_have_text("Waiting")
    job.publish()
    expect(page.locator("#percent")).to_have_text("12 %")


def test_what_a_failed_job_has_finished_can_be_compared(page: Page, fake: FakeApi, site: Site) -> None:
    job = fake.add_job()
    job.publish(2)
    job.fail("worker_crashed", "The worker was killed four times.")
    open_job(page, site, job)
    expect(page.get_by_alt_text("The result, the same frame")).to_be_visible()
    expect(page.get_by_text("The last frame that was finished.")).to_be_visible()
    expect(page.get_by_role("button", name="Result")).to_be_disabled()


def test_job_can_be_cancelled(page: Page, fake: FakeApi, site: Site) -> None:
    job = fake.add_job()
    job.publish()
    open_job(page, site, job)
    wait_until(page, f"{PLAYING}?.readyState >= 2")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("Cancelled")
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    assert job.state["status"] == "cancelled"


def test_refused_action_shows_the_detail(page: Page, fake: FakeApi, site: Site, watch: Watch) -> None:
    watch.allowed.append("409")
    fake.has_events = True
    job = fake.add_job()
    open_job(page, site, job)
    job.state = {**job.state, "status": "completed"}  # and nobody told
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("A completed job cannot be cancelled.")


def test_job_is_deleted_only_when_confirmed(page: Page, fake: FakeApi, site: Site) -> None:
    job = fake.add_job()
    job.complete()
    fake.add_job("other.mp4")
    open_job(page, site, job)
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete clip.mp4?")
    expect(dialog.get_by_role("button", name="Keep")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert job.id in fake.jobs
    page.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Make a soft video sharp")).to_be_visible()
    expect(page.locator(".job-link")).to_have_count(1)
    assert job.id not in fake.jobs


def test_result_can_be_downloaded(page: Page, fake: FakeApi, site: Site) -> None:
    job = fake.add_job()
    job.complete()
    open_job(page, site, job)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes() == job.clip.output
    assert download.value.suggested_filename == "restored.mp4"


def test_link_to_a_job_that_is_gone_leads_to_the_start(
    page: Page, fake: FakeApi, site: Site, watch: Watch
) -> None:
    watch.allowed.append("404")
    page.goto(f"{site.url}/#job_{'9' * 26}")
    expect(page.get_by_role("alert")).to_contain_text("it was deleted or never existed")
    expect(page.get_by_role("heading", name="Make a soft video sharp")).to_be_visible()
