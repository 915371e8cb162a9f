"""The page at /docs in a real browser: a newcomer authorizes, opens an event and books a ticket there.

With DOCS_SCREENSHOT=path it also takes the picture of the README.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.service.conftest import Start

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CREDENTIALS = ("admin", "a password for the tests")
PATIENCE_MS = 20_000.0


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
    assert all(url.startswith((service.url, "data:")) for url in asked)


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
