"""The chat page in Chromium, on the whole stack: one logs in, the bot answers, a wrong password and
a lost server are said; nothing is asked for elsewhere and nothing is kept."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.stack.browser import ChatPage, closed
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="package")]
OPERATOR = "operator@geolane.test"


@pytest_asyncio.fixture(loop_scope="package")
async def chat(running: Running, browser: Browser) -> AsyncIterator[ChatPage]:
    """The page in a profile of its own, not logged in."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        assert running.stack.servers.web is not None
        chat = ChatPage(await context.new_page(), running.stack.servers.web)
        await chat.open()
        yield chat
    finally:
        await closed(context.close())


async def test_one_logs_in_asks_and_is_answered_and_nothing_leaves_the_machine(
    running: Running, chat: ChatPage
) -> None:
    page, word = chat.page, running.password("operator")
    assert await chat.inaccessible() == []
    await chat.log_in(OPERATOR, word)
    await chat.in_room()
    await chat.state(f"{OPERATOR}: connected")
    await chat.say("!status")
    await chat.hears(re.compile(r"3/3 nodes, 12/12 lanes"))
    await chat.say("!nodes")
    await expect(page.locator("converse-chat-message pre", has_text="router-1")).to_be_visible()
    await chat.say("!map")
    drawn = page.locator("img.chat-image").last
    await expect(drawn).to_be_visible(timeout=30_000)
    await expect(drawn).to_have_js_property("complete", value=True)
    assert await drawn.evaluate("image => image.naturalWidth") > 300
    assert await chat.inaccessible() == []
    await page.emulate_media(color_scheme="dark")
    assert await chat.inaccessible() == []
    kept = await page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert word not in kept
    assert word not in await page.content()
    assert kept.startswith("[{},")
    assert await page.evaluate("indexedDB.databases()") == []
    assert running.stack.servers.server is not None
    ours = re.compile(rf"(http|ws)://127\.0\.0\.1:{running.stack.servers.server.http_port}/")
    assert [url for url in chat.asked if not ours.match(url)] == []
    assert chat.complaints == []
    await page.set_viewport_size({"width": 390, "height": 800})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("Password")).to_have_value("")
    await page.wait_for_function("sessionStorage.length < 5")


async def test_what_is_wrong_is_said_and_a_keyboard_is_enough_for_the_rest(
    running: Running, chat: ChatPage
) -> None:
    why, keys = chat.page.get_by_role("alert"), chat.page.keyboard
    await chat.log_in("operator@elsewhere.test", running.password("operator"))
    await expect(why).to_contain_text("ends in @geolane.test")
    await chat.log_in(OPERATOR, "not this one")
    await expect(why).to_contain_text("address or password is wrong")
    await expect(chat.page.get_by_label("Password")).to_be_focused()
    await keys.insert_text(running.password("operator"))
    await keys.press("Enter")
    await chat.in_room()
    await expect(chat.page.get_by_label("Message to")).to_be_focused()
    await keys.type("!help")
    await keys.press("Enter")
    await chat.hears("!status")


async def answered(chat: ChatPage, question: str, answer: str) -> None:
    """Ask until one of the coordinators is back in the room: it does not hear what was asked
    before, and the page lists the room's owners also while they are away."""
    async with asyncio.timeout(60):
        while True:
            await chat.say(question)
            try:
                await chat.hears(answer, within_ms=5_000)
                return
            except AssertionError:
                pass


async def test_a_lost_server_is_said_and_the_page_comes_back_by_itself(
    running: Running, chat: ChatPage
) -> None:
    servers = running.stack.servers
    assert servers.server is not None
    await chat.log_in(OPERATOR, running.password("operator"))
    await chat.in_room()
    servers.hold_server("ejabberd")
    servers.server.kill()
    await chat.state("connection was lost")
    servers.release_server("ejabberd")
    await chat.state(f"{OPERATOR}: connected")
    await chat.in_room()
    await answered(chat, "!lanes", "12 of 12 lanes are placed")
