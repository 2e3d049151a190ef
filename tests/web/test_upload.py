"""Choosing videos, sending them through bad lines, and making jobs of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.web.conftest import TIMES, Site, Watch, wait_until
from tests.web.fake_api import FakeApi, ProblemError

LOST = "Failed to load resource: net::ERR_"


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    """3 MB that are the same nowhere, so that a part in the wrong place is noticed."""
    path = tmp_path / "large.mp4"
    path.write_bytes(random.Random(0).randbytes(3_000_000))
    return path


def choose(page: Page, *paths: Path) -> None:
    page.locator("#file-input").set_input_files([str(path) for path in paths])


def submit(page: Page) -> None:
    page.get_by_role("button", name="Upscale").click()


def test_video_can_be_dropped_anywhere(page: Page, site: Site) -> None:
    page.goto(site.url)
    expect(page.get_by_text("Drop videos here")).to_be_visible()
    transfer = page.evaluate_handle(
        """() => {
          const transfer = new DataTransfer();
          transfer.items.add(new File(["x"], "dropped.mp4", { type: "video/mp4" }));
          return transfer;
        }"""
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    expect(page.get_by_text("Drop to add")).to_be_visible()
    page.dispatch_event("header", "drop", {"dataTransfer": transfer})
    expect(page.get_by_text("Drop to add")).to_be_hidden()
    expect(page.get_by_text("dropped.mp4", exact=True)).to_be_visible()


def test_several_videos_become_several_jobs(page: Page, fake: FakeApi, site: Site, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.mp4" for number in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    page.goto(site.url)
    choose(page, *paths)
    page.get_by_role("button", name="Upscale 3 videos").click()
    page.wait_for_url("**/#job_*")
    expect(page.locator(".job-link")).to_have_count(3)
    assert [body["filename"] for body in fake.submitted] == ["0.mp4", "1.mp4", "2.mp4"]


def test_options_and_estimate_reach_the_api(page: Page, fake: FakeApi, site: Site, clip_file: Path) -> None:
    page.goto(site.url)
    choose(page, clip_file)
    expect(page.locator(".item-estimate")).to_have_text(
        f"160 {TIMES} 90 → 320 {TIMES} 180 · 96 frames · about 30 s"
    )
    page.get_by_label("Size").select_option(f"3{TIMES}")
    expect(page.locator(".item-estimate")).to_contain_text(f"480 {TIMES} 270")
    page.get_by_label("Part").select_option("From … for …")
    page.get_by_label("From (seconds)").fill("1.5")
    page.get_by_label("For (seconds)").fill("2")
    page.get_by_text("More options").click()
    page.get_by_label("Video codec").select_option("av1")
    page.get_by_label("Quality (CRF)").fill("30")
    page.get_by_label("Priority").select_option("high")
    expect(page.locator(".item-estimate")).to_contain_text("48 frames")
    submit(page)
    page.wait_for_url("**/#job_*")
    wanted = {"model": "dovetail-dit-nano", "scale": 3, "codec": "av1", "crf": 30}
    assert fake.submitted[0]["options"] == wanted | {"start_seconds": 1.5, "duration_seconds": 2}
    assert fake.submitted[0]["priority"] == "high"


def test_quality_outside_the_codecs_range_is_not_submitted(
    page: Page, fake: FakeApi, site: Site, clip_file: Path
) -> None:
    page.goto(site.url)
    choose(page, clip_file)
    page.get_by_text("More options").click()
    page.get_by_label("Quality (CRF)").fill("60")
    submit(page)
    assert page.locator("#option-crf").evaluate("field => field.validity.rangeOverflow")
    page.get_by_label("Video codec").select_option("av1")
    submit(page)
    page.wait_for_url("**/#job_*")
    assert [body["options"]["crf"] for body in fake.submitted] == [60]


def test_what_an_estimate_refuses_is_said_before_submitting(
    page: Page, fake: FakeApi, site: Site, watch: Watch, clip_file: Path
) -> None:
    watch.allowed.append("422")
    page.goto(site.url)
    choose(page, clip_file)
    page.get_by_label("Size").select_option("2160p")
    expect(page.locator(".item-estimate")).to_have_text("2160 rows are more than this server makes.")


def test_upload_survives_a_broken_connection(
    page: Page, fake: FakeApi, site: Site, watch: Watch, large_file: Path
) -> None:
    # Chromium itself repeats a request whose reused connection broke; its old offset is a conflict then, and
    # half a body has another checksum.
    watch.allowed += [LOST, "409 (Conflict)", "status of 460"]
    page.goto(site.url)
    expect(page.locator("#layout")).to_have_attribute("data-jobs", "none")
    site.line.cut_after(1_700_000)
    choose(page, large_file)
    submit(page)
    page.wait_for_url("**/#job_*")
    assert site.line.was_cut.is_set()
    assert fake.submitted[0]["bytes"] == large_file.read_bytes()


def test_upload_goes_on_after_a_reload(page: Page, fake: FakeApi, site: Site, large_file: Path) -> None:
    page.goto(site.url)
    expect(page.locator("#layout")).to_have_attribute("data-jobs", "none")
    slow_down(page)
    choose(page, large_file)
    wait_until(page, "JSON.parse(Object.values(localStorage)[0] ?? '{}').offset > 500_000")
    page.reload()
    expect(page.get_by_text("large.mp4 was not finished")).to_be_visible()
    sent_before = site.line.bytes_up
    choose(page, large_file)
    expect(page.get_by_text("large.mp4 was not finished")).to_be_hidden()
    submit(page)
    page.wait_for_url("**/#job_*")
    assert fake.submitted[0]["bytes"] == large_file.read_bytes()
    assert site.line.bytes_up - sent_before < 2_600_000
    assert page.evaluate("localStorage.length") == 0


def test_interrupted_upload_can_be_discarded(page: Page, fake: FakeApi, site: Site, large_file: Path) -> None:
    page.goto(site.url)
    slow_down(page)
    choose(page, large_file)
    wait_until(page, "localStorage.length === 1")
    page.reload()
    with page.expect_response(lambda response: response.request.method == "DELETE"):
        page.get_by_role("button", name="Discard large.mp4").click()
    expect(page.get_by_text("large.mp4 was not finished")).to_be_hidden()
    assert fake.uploads == {}
    assert page.evaluate("localStorage.length") == 0


def test_forgotten_upload_starts_anew(
    page: Page, fake: FakeApi, site: Site, watch: Watch, large_file: Path
) -> None:
    watch.allowed.append("404")
    page.goto(site.url)
    slow_down(page)
    choose(page, large_file)
    wait_until(page, "JSON.parse(Object.values(localStorage)[0] ?? '{}').offset > 500_000")
    page.goto("about:blank")
    fake.uploads.clear()
    page.goto(site.url)
    choose(page, large_file)
    submit(page)
    page.wait_for_url("**/#job_*")
    assert fake.submitted[0]["bytes"] == large_file.read_bytes()


def test_upload_shows_its_progress_and_can_be_paused(
    page: Page, fake: FakeApi, site: Site, large_file: Path
) -> None:
    page.goto(site.url)
    slow_down(page)
    choose(page, large_file)
    bar = page.get_by_role("progressbar", name="Upload of large.mp4")
    wait_until(page, "document.querySelector('.item .bar').ariaValueNow > 20")
    page.get_by_role("button", name="Pause large.mp4").click()
    expect(page.get_by_text("paused")).to_be_visible()
    assert 20 < int(bar.get_attribute("aria-valuenow") or 0) < 100
    page.get_by_role("button", name="Go on with large.mp4").click()
    expect(page.get_by_text("3.0 MB · uploaded")).to_be_visible()
    submit(page)
    page.wait_for_url("**/#job_*")
    assert fake.submitted[0]["bytes"] == large_file.read_bytes()


def test_removed_video_is_removed_from_the_server(
    page: Page, fake: FakeApi, site: Site, clip_file: Path
) -> None:
    page.goto(site.url)
    choose(page, clip_file)
    expect(page.get_by_text("uploaded")).to_be_visible()
    with page.expect_response(lambda response: response.request.method == "DELETE"):
        page.get_by_role("button", name="Remove clip.mp4").click()
    expect(page.locator(".item")).to_have_count(0)
    assert fake.uploads == {}
    assert page.evaluate("localStorage.length") == 0


def test_damaged_chunk_is_sent_again(
    page: Page, fake: FakeApi, site: Site, watch: Watch, clip_file: Path
) -> None:
    watch.allowed.append("460")
    upload_path = "/v1/uploads/upl_" + "1".zfill(26)
    fake.refusals["PATCH", upload_path] = ProblemError(460, "checksum_mismatch", "damaged")
    page.goto(site.url)
    choose(page, clip_file)
    submit(page)
    page.wait_for_url("**/#job_*")
    assert fake.submitted[0]["bytes"] == clip_file.read_bytes()


def test_refused_upload_says_why(
    page: Page, fake: FakeApi, site: Site, watch: Watch, clip_file: Path
) -> None:
    watch.allowed.append("413")
    fake.refusals["POST", "/v1/uploads"] = ProblemError(
        413, "too_large", "10 kB are more than 5 kB, the limit."
    )
    page.goto(site.url)
    choose(page, clip_file)
    expect(page.locator(".item-text")).to_have_text("10 kB are more than 5 kB, the limit.")
    expect(page.get_by_role("button", name="Upscale")).to_be_disabled()


def test_refused_job_shows_the_detail_and_can_be_submitted_again(
    page: Page, fake: FakeApi, site: Site, watch: Watch, clip_file: Path
) -> None:
    watch.allowed.append("503")
    fake.refusals["POST", "/v1/jobs"] = ProblemError(503, "queue_full", "The queue is full: 200 jobs wait.")
    page.goto(site.url)
    choose(page, clip_file)
    submit(page)
    alert = page.get_by_role("alert").filter(has_text="The queue is full: 200 jobs wait.")
    expect(alert).to_be_visible()
    alert.get_by_role("button", name="Close message").click()
    expect(alert).to_have_count(0)
    submit(page)
    page.wait_for_url("**/#job_*")


def slow_down(page: Page) -> None:
    """About 2 MB/s up, by the browser's own throttle."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 2_000_000}
    session.send("Network.emulateNetworkConditions", conditions)
