"""Debian's Chromium, driven by playwright: the chat page and the live page as a person uses them,
and all that they asked for, said and were refused."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from agents.base.files import PROJECT

AXE = PROJECT / ".local" / "axe" / "axe.min.js"
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
expect.set_options(timeout=WAIT_MS)
PIXELS = """name => {
    const of = getComputedStyle(document.body).getPropertyValue("--" + name).trim();
    const want = [1, 3, 5].map(i => parseInt(of.slice(i, i + 2), 16));
    const c = document.querySelector("canvas.fleet");
    const sheet = new OffscreenCanvas(c.width, c.height);
    const copy = sheet.getContext("2d", { willReadFrequently: true });
    copy.drawImage(c, 0, 0);
    const { data } = copy.getImageData(0, 0, c.width, c.height);
    let n = 0;
    for (let i = 0; i < data.length; i += 4)
        n += data[i + 3] > 200 && want.every((v, k) => Math.abs(v - data[i + k]) < 12);
    return n;
}"""


class PageOfOurs:
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

    async def state(self, text: str | re.Pattern[str]) -> None:
        """Wait until the bar at the top says so."""
        await expect(self.page.get_by_role("status").first).to_contain_text(text, timeout=WAIT_MS)

    async def inaccessible(self) -> list[str]:
        """What axe-core finds: rules of WCAG 2.2 A and AA and its good practice, contrast among
        them."""
        await self.page.evaluate(AXE.read_text("utf-8"))
        found: list[str] = await self.page.evaluate(
            "axe.run().then(r => r.violations.flatMap(v => v.nodes.map(n => `${v.id}: "
            "${n.html.slice(0, 200)}`)))"
        )
        return found


class ChatPage(PageOfOurs):
    """The chat page."""

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


class LivePage(PageOfOurs):
    """The live page."""

    async def shows_fleet(self) -> None:
        """Wait until nodes and lanes are shown."""
        await expect(self.page.locator("#lanes tbody tr").first).to_be_visible(timeout=WAIT_MS)

    def worker(self, name: str) -> Locator:
        """The row of a worker."""
        return self.page.locator(
            "#workers tbody tr", has=self.page.get_by_role("rowheader", name=name, exact=True)
        )

    async def click_node(self, name: str) -> None:
        """Click it on the map, where it is drawn now."""
        await self.page.locator("#map").scroll_into_view_if_needed()
        nodes = await self.page.evaluate("document.getElementById('map').nodesDrawn()")
        x, y = next((x, y) for x, y, which in nodes if which == f"node-{name}")
        await self.page.locator("#map").click(position={"x": x, "y": y})

    async def pixels(self, colour: str) -> int:
        """How many pixels of the map have about the colour of this name (page.css)."""
        count: int = await self.page.evaluate(PIXELS, colour)
        return count

    async def draws(self, colour: str, least: int) -> None:
        """Wait until that many pixels of the map have about this colour."""
        await self.page.wait_for_function(
            f"([name, least]) => ({PIXELS})(name) >= least", arg=[colour, least], timeout=WAIT_MS
        )


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
