"""The page at /docs in a real browser: a newcomer authorizes, opens an event and books a ticket there.

With DOCS_SCREENSHOT=path it also takes the picture of the README, and writes beside it what stands there: so it is
noticed when the page has come to look different.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.readme_runner import ORDER_ID, TIME
from tests.service.conftest import Start
from tests.service.running import ROOT

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CREDENTIALS = ("admin", "a password for the tests")
PATIENCE_MS = 20_000.0
PICTURE = ROOT / "docs" / "docs-page.png"


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a headless Chromium; whatever it complains of fails the test."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert browser, f"no browser is installed, none of {', '.join(BROWSERS)}: see CONTRIBUTING.md"
    complaints: list[str] = []
    with sync_playwright() as playwright:
        # CI runs as root, for whom Chromium has no sandbox.
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        opened = chromium.new_page(viewport={"width": 1000, "height": 760})
        opened.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        yield opened
        chromium.close()
    assert not complaints


def test_a_booking_can_be_tried_on_the_page(make_lean_service: Start, page: Page) -> None:
    """Authorize with Basic, then Try it out with the examples as they are; nothing comes from another site."""
    username, password = CREDENTIALS
    service = make_lean_service(BASIC_AUTH_USERNAME=username, BASIC_AUTH_PASSWORD=password)
    service.start().wait_until_serving()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(f"{service.url}/docs")
    page.get_by_role("button", name="Authorize").click()
    page.locator("#auth-basic-username").fill(username)
    page.locator("#auth-basic-password").fill(password)
    page.get_by_role("button", name="Apply credentials").first.click()
    page.locator(".close-modal").click()

    opened = try_out(page, "Events-open_event")
    expect(status_of(opened)).to_have_text("201")
    booked = try_out(page, "Bookings-book")
    expect(status_of(booked)).to_have_text("201")
    expect(booked.locator(".live-responses-table")).to_contain_text('"status": "confirmed"')

    if picture := os.environ.get("DOCS_SCREENSHOT"):
        booked.get_by_role("button", name="Execute").evaluate("button => button.scrollIntoView()")
        page.screenshot(path=picture)
        Path(picture).with_suffix(".txt").write_text(shown_in(booked))
    assert PICTURE.with_suffix(".txt").read_text() == shown_in(booked), f"{PICTURE.name} is old: run make screenshot"
    assert all(url.startswith((service.url, "data:")) for url in asked)


def shown_in(block: Locator) -> str:
    """What the picture shows of an operation: what was sent and the body that came back, without what is another each
    time."""
    texts = block.locator(".curl-command .curl"), block.locator(".live-responses-table .highlight-code").first
    shown = "\n".join(text.inner_text().strip() for text in texts) + "\n"
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8000", TIME.sub("<time>", ORDER_ID.sub("<order>", shown)))


def try_out(page: Page, operation: str) -> Locator:
    """Send an operation's example as it stands on the page."""
    block = page.locator(f"#operations-{operation}")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    return block


def status_of(block: Locator) -> Locator:
    """Where the status of the answer stands."""
    return block.locator(".live-responses-table tbody .response-col_status").first
