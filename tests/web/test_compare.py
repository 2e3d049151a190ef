"""Before and after on video: the divider, and two videos that stay together."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.web.conftest import TIMES, Site, wait_until
from tests.web.fake_api import FakeApi
from tests.web.made import FPS

BEFORE = "document.querySelector('.layer-before video')"
AFTER = "document.querySelector('.layer-after video')"
DRIFT = f"Math.abs({BEFORE}.currentTime - {AFTER}.currentTime)"
MAX_DRIFT = 0.1


@pytest.fixture
def divider(page: Page, fake: FakeApi, site: Site) -> Locator:
    """Of a finished job that is open, with both videos ready."""
    job = fake.add_job()
    job.complete()
    page.goto(f"{site.url}/#{job.id}")
    wait_until(page, f"{BEFORE}?.readyState >= 2 && {AFTER}?.readyState >= 2")
    return page.get_by_role("slider", name="Divider between before and after")


def middle(locator: Locator) -> tuple[float, float]:
    box = locator.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_divider_follows_the_mouse(page: Page, divider: Locator) -> None:
    box = page.locator("#compare").bounding_box()
    assert box is not None
    page.mouse.move(*middle(divider))
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20, steps=4)
    page.mouse.up()
    expect(divider).to_have_attribute("aria-valuenow", "25")
    assert middle(divider)[0] == pytest.approx(box["x"] + box["width"] * 0.25, abs=2)
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 20)
    expect(divider).to_have_attribute("aria-valuenow", "25")
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + 20)
    expect(divider).to_have_attribute("aria-valuenow", "75")


def test_divider_follows_a_finger(page: Page, divider: Locator) -> None:
    x, y = middle(divider)
    session = page.context.new_cdp_session(page)
    for kind, points in [
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x - 60, "y": y}]),
        ("touchMove", [{"x": x - 200, "y": y}]),
        ("touchEnd", []),
    ]:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    wait_until(page, "document.getElementById('divider').ariaValueNow < 40")
    assert middle(divider)[0] == pytest.approx(x - 200, abs=2)


def test_divider_follows_keys(divider: Locator) -> None:
    keys = {
        "ArrowLeft": 48,
        "ArrowRight": 50,
        "Shift+ArrowRight": 60,
        "ArrowUp": 62,
        "ArrowDown": 60,
        "PageDown": 50,
        "PageUp": 60,
        "End": 100,
        "Home": 0,
    }
    for key, value in keys.items():
        divider.press(key)
        expect(divider).to_have_attribute("aria-valuenow", str(value))
    expect(divider).to_have_attribute("aria-valuetext", "0% before, 100% after")


def test_pictures_lie_exactly_over_each_other(page: Page, divider: Locator) -> None:
    boxes = [page.locator(f".layer-{side} video").bounding_box() for side in ("before", "after")]
    assert boxes[0] == boxes[1]
    page.get_by_role("button", name=f"Zoom: 1{TIMES}").click()
    boxes_zoomed = [page.locator(f".layer-{side} video").bounding_box() for side in ("before", "after")]
    assert boxes_zoomed[0] == boxes_zoomed[1]
    assert boxes_zoomed[0]["width"] == pytest.approx(2 * boxes[0]["width"])  # type: ignore[index]
    divider.press("Alt+ArrowRight")
    moved = page.locator(".layer-after video").bounding_box()
    assert moved is not None
    assert moved["x"] < boxes_zoomed[0]["x"]  # type: ignore[index]
    expect(divider).to_have_attribute("aria-valuenow", "50")


def test_videos_play_together(page: Page, divider: Locator) -> None:
    page.get_by_role("button", name="Play").click()
    for moment in (0.5, 1.0, 1.5):
        wait_until(page, f"{AFTER}.currentTime > {moment}")
        assert page.evaluate(DRIFT) < MAX_DRIFT
    divider.press(" ")
    wait_until(page, f"{AFTER}.paused && {BEFORE}.paused && !{AFTER}.seeking && !{BEFORE}.seeking")
    assert page.evaluate(DRIFT) < 0.5 / FPS


def test_drift_is_made_up_for(page: Page, divider: Locator) -> None:
    page.get_by_role("button", name="Play").click()
    wait_until(page, f"{AFTER}.currentTime > 0.2")
    page.evaluate(f"{BEFORE}.currentTime += 0.25")
    wait_until(page, f"{DRIFT} < 0.05")
    page.evaluate(f"{BEFORE}.currentTime = 3.5")
    wait_until(page, f"{DRIFT} < 0.05")
    assert page.evaluate(f"{AFTER}.currentTime < 3.4")


def test_one_video_waits_for_the_other(page: Page, divider: Locator) -> None:
    page.get_by_role("button", name="Play").click()
    wait_until(page, f"{AFTER}.currentTime > 0.2")
    # As when its bytes do not come: the player reports that it waits, and is not ready.
    page.evaluate(
        f"""() => {{
          Object.defineProperty({BEFORE}, "readyState", {{ value: 2, configurable: true }});
          {BEFORE}.dispatchEvent(new Event("waiting"));
        }}"""
    )
    wait_until(page, f"{AFTER}.paused")
    page.evaluate(f"() => {{ delete {BEFORE}.readyState; {BEFORE}.dispatchEvent(new Event('canplay')); }}")
    wait_until(page, f"!{AFTER}.paused && !{BEFORE}.paused")


def test_seeking_moves_both_videos(page: Page, divider: Locator) -> None:
    seek = page.get_by_role("slider", name="Position")
    seek.fill("2.5")
    wait_until(page, f"!{AFTER}.seeking && !{BEFORE}.seeking && {AFTER}.currentTime > 2.4")
    assert page.evaluate(DRIFT) < 0.5 / FPS
    assert page.evaluate(f"{BEFORE}.currentTime") == pytest.approx(2.5 + 0.5 / FPS, abs=0.001)
    expect(page.locator("#time")).to_have_text("0:02 / 0:04")
    expect(seek).to_have_attribute("aria-valuetext", "0:02 of 0:04")


def test_part_of_a_video_is_compared_with_that_part(page: Page, fake: FakeApi, site: Site) -> None:
    job = fake.add_job()
    job.state["options"]["start_seconds"] = 1.0
    job.complete()
    page.goto(f"{site.url}/#{job.id}")
    wait_until(page, f"{BEFORE}?.readyState >= 2 && {AFTER}?.readyState >= 2")
    page.get_by_role("slider", name="Position").fill("0.5")
    wait_until(page, f"!{AFTER}.seeking && !{BEFORE}.seeking && {AFTER}.currentTime > 0.4")
    assert page.evaluate(f"{BEFORE}.currentTime - {AFTER}.currentTime") == pytest.approx(1, abs=0.01)


def test_playing_again_begins_at_the_start(page: Page, divider: Locator) -> None:
    page.get_by_role("slider", name="Position").fill("3.7")
    page.get_by_role("button", name="Play").click()
    wait_until(page, f"{AFTER}.ended")
    page.get_by_role("button", name="Play").click()
    wait_until(page, f"{AFTER}.currentTime < 1 && !{AFTER}.paused && !{BEFORE}.paused")
    assert page.evaluate(DRIFT) < MAX_DRIFT


def test_position_is_kept_between_the_views(page: Page, divider: Locator) -> None:
    page.get_by_role("slider", name="Position").fill("2")
    page.get_by_role("button", name="Result").click()
    wait_until(page, "document.querySelector('#watch video:not(.incoming)')?.currentTime > 1.9")
    page.get_by_role("button", name="Before and after").click()
    wait_until(page, f"{BEFORE}?.currentTime > 1.9 && {AFTER}.currentTime > 1.9")


def test_original_that_the_browser_cannot_play_is_compared_by_frames(
    page: Page, fake: FakeApi, site: Site
) -> None:
    job = fake.add_job("tape.avi")
    job.complete()
    page.route("**/source", lambda route: route.fulfill(body=b"RIFF" + bytes(100), content_type="video/avi"))
    page.goto(f"{site.url}/#{job.id}")
    expect(page.get_by_text("This browser cannot play the original video")).to_be_visible()
    expect(page.get_by_alt_text("The original, one frame")).to_be_visible()
    expect(page.get_by_role("button", name="Play")).to_be_hidden()


def test_closed_player_leaves_no_connection(page: Page, fake: FakeApi, site: Site, divider: Locator) -> None:
    page.evaluate(f"window.old = [{BEFORE}, {AFTER}]")
    page.get_by_role("link", name="New").click()
    expect(page.get_by_role("heading", name="Make a soft video sharp")).to_be_visible()
    assert page.evaluate("window.old.map(video => video.networkState)") == [0, 0]
