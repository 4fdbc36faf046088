"""Makes docs/webchat.png, docs/live.svg and docs/livepage*.png anew: ten nodes, a replay of 1,000
events/s, one conversation in the chat page, in which a node is killed, the live view afterwards,
and the live page with the dry run of a drain.

python -m tests.stack.picture [FOLDER]"""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from playwright.async_api import Browser, expect
from rich.console import Console, Group

from agents.base.files import PROJECT
from agents.core.model.topology import short_name
from agents.local.demo import flights
from agents.local.demo.replay import Replay
from agents.local.servers.folder import RunFolder
from agents.local.stack import Stack, StackPlan
from agents.observe.dashboard.figures import Dashboard
from agents.observe.dashboard.screen import ScreenLayout, draw_screen
from agents.observe.dashboard.watcher import Watcher
from agents.settings import Settings, read_secret
from tests.stack.browser import ChatPage, LivePage, chromium, closed

RATE_EPS = 1000.0
SEEN_S = 90.0  # for the live page's charts
WARM_S = 60.0
"""Until the forecast and the percentiles are of a steady stream."""


COLUMNS, LINES = 118, 40
FONT = "DejaVu Sans Mono"


async def main(docs: Path) -> None:
    path = Path(tempfile.mkdtemp(prefix="geolane-picture-"))
    os.chmod(path, 0o711)  # ejabberd's user passes through
    try:
        with RunFolder(path) as folder:
            stack = Stack(folder, StackPlan(flights.with_pipeline(Settings())), print)
            async with stack.working(flights.sample_events(), RATE_EPS), chromium() as browser:
                replay = Replay(
                    stack.base.kafka,
                    flights.endless_events(),
                    len(stack.accounting.raw),
                    RATE_EPS,
                    None,
                )
                sending = asyncio.create_task(replay.run())
                page = await browser.new_page(viewport={"width": 1280, "height": 800})
                assert stack.servers.web is not None
                chat = ChatPage(page, stack.servers.web)
                await chat.open()
                await asyncio.sleep(WARM_S)
                await chat.log_in(
                    "operator@geolane.test", read_secret(str(folder.secrets / "operator"))
                )
                await chat.in_room()
                board = Dashboard(stack.base.xmpp.domain)
                ana = msgspec.structs.replace(
                    stack.base.xmpp, password_file=str(folder.secrets / "ana")
                )
                watching = asyncio.create_task(Watcher(ana, "ana", board).run())
                await conversation(stack, chat)
                await page.mouse.move(640, 10)  # over nothing that lights up
                await page.screenshot(path=docs / "webchat.png")
                await asyncio.sleep(1.5)  # the workers' rows are told once a second
                draw_live_view(board, docs / "live.svg")
                await take_live_pages(stack, browser, docs)
                watching.cancel()
                sending.cancel()
                await asyncio.gather(sending, watching, return_exceptions=True)
    finally:
        shutil.rmtree(path, ignore_errors=True)


async def take_live_pages(stack: Stack, browser: Browser, docs: Path) -> None:
    """The live page: dark with a dry run on the map, light, and on a phone."""
    assert stack.servers.live is not None
    word = read_secret(str(stack.folder.secrets / "operator"))
    context = await browser.new_context(
        color_scheme="dark", viewport={"width": 1400, "height": 1200}
    )
    live = LivePage(await context.new_page(), stack.servers.live)
    await live.open()
    await live.log_in("operator@geolane.test", word)
    await live.shows_fleet()
    await asyncio.sleep(SEEN_S)
    await live.click_node(short_name(stack.busiest_node().name))
    await live.page.locator("#drain").click()
    await expect(live.page.get_by_role("button", name="Do it")).to_be_visible()
    await live.page.evaluate("scrollTo(0, 0)")
    await live.page.screenshot(path=docs / "livepage.png")
    await live.page.get_by_role("button", name="Change nothing").click()
    await live.page.emulate_media(color_scheme="light")
    await asyncio.sleep(2)
    await live.page.screenshot(path=docs / "livepage-light.png")
    await live.page.set_viewport_size({"width": 390, "height": 844})
    await live.page.locator("#fit").click()
    await asyncio.sleep(2)
    await live.page.evaluate("scrollTo(0, 0)")
    await live.page.screenshot(path=docs / "livepage-phone.png")
    await closed(context.close())


async def conversation(stack: Stack, chat: ChatPage) -> None:
    await chat.say("!status")
    await chat.hears("Leader epoch")
    await chat.say("!drain iad-1")
    await chat.hears("To do it")
    last = await chat.page.locator("converse-chat-message", has_text="To do it").last.inner_text()
    found = re.search(r"!confirm (\w+)", last)
    assert found is not None
    await chat.say(f"!confirm {found[1]}")
    await chat.hears(re.compile(r"drain iad-1.* done in"))
    stack.kill_process(stack.busiest_node().name)
    await chat.hears("is gone")
    await chat.hears("Calm again")


def draw_live_view(board: Dashboard, file: Path) -> None:
    """What `geolane watch` shows now, as SVG."""
    console = Console(
        record=True, file=io.StringIO(), width=COLUMNS, height=LINES, force_terminal=True
    )
    look = ScreenLayout(COLUMNS, LINES, True)
    console.print(Group(*draw_screen(board.figures_at(time.monotonic()), look)))
    drawn = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="geolane watch"), flags=re.S)
    file.write_text(drawn.replace("Fira Code", FONT), "utf-8")  # nothing is fetched for it


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "docs"))
