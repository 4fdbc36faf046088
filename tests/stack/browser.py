"""Debian's Chromium, driven by playwright: the chat page as a person uses it, and all that it asked
for, said and was refused."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright, expect

CHROMIUM = "/usr/bin/chromium"
# Nothing of Google's is asked for; no sandbox, since root has none.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 40_000


class ChatPage:
    """One tab. `asked`: each URL that the page asked for; `complaints`: errors and warnings of its
    console."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None,
        )

    async def open(self) -> None:
        await self.page.goto(self.url)

    async def log_in(self, jid: str, password: str) -> None:
        await self.page.get_by_label("XMPP address").fill(jid)
        await self.page.get_by_label("Password").fill(password)
        await self.page.get_by_role("button", name="Log in").click()

    async def in_room(self) -> None:
        """Wait until the room can be written in."""
        await expect(self.page.get_by_label("Message to")).to_be_editable(timeout=WAIT_MS)

    async def say(self, text: str) -> None:
        box = self.page.get_by_label("Message to")
        await box.fill(text)
        await box.press("Enter")

    async def hears(self, text: str | re.Pattern[str], within_ms: int = WAIT_MS) -> None:
        """Wait until a message with this text is shown."""
        await expect(self.page.locator("converse-chat-message", has_text=text).last).to_be_visible(
            timeout=within_ms
        )

    async def state(self, text: str | re.Pattern[str]) -> None:
        """Wait until the bar at the top says so."""
        await expect(self.page.get_by_role("status").first).to_contain_text(text, timeout=WAIT_MS)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser with a fresh profile."""
    driver = await async_playwright().start()
    try:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            await closed(browser.close())
    finally:
        await closed(driver.stop())


async def closed(closing: Awaitable[None]) -> None:
    """Wait for it up to 20 s: a browser that hangs ends with its parent, these tests."""
    try:
        async with asyncio.timeout(20):
            await closing
    except TimeoutError:
        warnings.warn("Chromium does not close", RuntimeWarning, stacklevel=2)
