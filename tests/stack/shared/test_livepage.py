"""The live page in Chromium, on the whole stack: one sees nodes and lanes, and drains a node by a
click once its dry run was drawn; a keyboard is enough; nothing is asked for elsewhere or kept."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.stack.browser import LivePage, closed
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="package")]
WELL = re.compile(r"^(ok|full)$")


@pytest_asyncio.fixture(loop_scope="package")
async def live(running: Running, browser: Browser) -> AsyncIterator[LivePage]:
    """The page in a profile of its own, not logged in."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        assert running.stack.servers.live is not None
        page = LivePage(await context.new_page(), running.stack.servers.live)
        await page.open()
        yield page
    finally:
        await closed(context.close())


async def log_in(running: Running, live: LivePage, who: str = "operator") -> None:
    await live.log_in(f"{who}@geolane.test", running.password(who))
    await live.shows_fleet()


def a_node(running: Running) -> str:
    return next(w.name for w in running.stack.workers if w.worker.startswith("node-"))


async def test_a_node_is_drained_by_a_click_after_its_dry_run_was_drawn(
    running: Running, live: LivePage
) -> None:
    page, name = live.page, a_node(running)
    await log_in(running, live)
    await live.state("Live")
    await expect(page.locator("#lanes .count")).to_contain_text("12 of 12")
    workers = len(running.stack.workers)
    await expect(page.locator("#workers .count")).to_contain_text(f"{workers} of {workers}")
    row = live.worker(name)
    await expect(row.locator("td").nth(1)).to_have_text(WELL)
    await live.draws("ok", 30)  # the nodes
    await live.click_node(name)
    await expect(page.locator("#node-title")).to_have_text(name)
    before = await live.pixels("plan")
    await page.locator("#drain").click()
    await expect(page.locator("#command pre")).to_contain_text(f"Drain {name}")
    await expect(page.locator("#command-title")).to_be_focused()
    await live.draws("plan", before + 50)  # the moves of the dry run
    await expect(row.locator("td").nth(1)).to_have_text(WELL)
    await page.get_by_role("button", name="Do it").click()
    await expect(page.locator("#command pre")).to_contain_text(f"On it: drain {name}")
    await expect(row.locator("td").nth(1)).to_have_text("drained")
    await expect(row.locator("td").nth(2)).to_have_text("0")
    await expect(page.get_by_role("log")).to_contain_text(f"{name} to ")
    await page.get_by_role("button", name=f"Resume {name}").click()
    await page.get_by_role("button", name="Do it").click()
    await expect(row.locator("td").nth(1)).to_have_text(WELL)
    assert live.complaints == []


async def test_a_keyboard_is_enough_and_whoever_may_only_look_is_offered_nothing_else(
    running: Running, live: LivePage
) -> None:
    page, keys, name = live.page, live.page.keyboard, a_node(running)
    await page.get_by_label("XMPP address").fill("guest@geolane.test")
    await page.get_by_label("Password").focus()
    await keys.insert_text("not this one")
    await keys.press("Enter")
    await expect(page.get_by_role("alert").first).to_contain_text("address or password is wrong")
    await expect(page.get_by_label("Password")).to_be_focused()
    await keys.insert_text(running.password("guest"))
    await keys.press("Enter")
    await live.shows_fleet()
    await expect(page.locator("#map")).to_be_focused()
    await expect(page.locator("#which option[value=status]")).to_have_count(1)
    await expect(page.locator("#which option[value=drain]")).to_have_count(0)
    await expect(page.get_by_role("button", name=f"Drain {name}")).to_be_hidden()
    await page.get_by_role("button", name="Log out").focus()
    await keys.press("Enter")
    await expect(page.get_by_label("Password")).to_have_value("")
    await log_in(running, live)
    await page.get_by_role("button", name=f"Drain {name}").focus()
    await keys.press("Enter")
    await expect(page.locator("#command pre")).to_contain_text(f"Drain {name}")
    await keys.press("Tab")
    await keys.press("Tab")
    await expect(page.get_by_role("button", name="Do it")).to_be_focused()
    await keys.press("Escape")
    await expect(page.locator("#command-title")).to_have_text("drain: nothing was done")
    await expect(live.worker(name).locator("td").nth(1)).to_have_text(WELL)


async def test_nothing_leaves_the_machine_nothing_is_kept_and_all_can_read_it(
    running: Running, live: LivePage
) -> None:
    page, word = live.page, running.password("operator")
    assert await live.inaccessible() == []
    await log_in(running, live)
    await live.state("Live")
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        assert await live.inaccessible() == []
    hidden = await page.evaluate(
        "[...document.querySelectorAll('.scroll')].some(x => x.scrollWidth > x.clientWidth)"
    )
    assert not hidden  # no table hides its buttons
    await page.set_viewport_size({"width": 390, "height": 800})
    assert await live.inaccessible() == []
    wide = await page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
    kept = await page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert kept.startswith('[{},{},"",')
    assert word not in kept
    assert word not in await page.content()
    assert await page.evaluate("indexedDB.databases()") == []
    assert running.stack.servers.server is not None
    ours = re.compile(rf"(http|ws)://127\.0\.0\.1:{running.stack.servers.server.http_port}/")
    assert [url for url in live.asked if not ours.match(url) and not url.startswith("data:")] == []
    assert live.complaints == []


async def test_a_lost_server_is_said_old_figures_have_an_age_and_the_page_comes_back(
    running: Running, live: LivePage
) -> None:
    servers = running.stack.servers
    assert servers.server is not None
    await log_in(running, live)
    servers.hold_server("ejabberd")
    try:
        await asyncio.to_thread(servers.server.kill)
        await live.state("The connection was lost")
        await expect(live.page.locator("#old")).to_contain_text("These figures are old: last heard")
    finally:
        servers.release_server("ejabberd")
    await live.state(re.compile("^Live"))
    await expect(live.page.locator("#old")).to_have_text("")
