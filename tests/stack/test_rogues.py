"""A guest, an outsider and a node that mean no good, beside a fleet at work: nobody is lost,
nothing is missing, people are answered."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agents.xmpp.operator_client import OperatorClient
from tests.security.at_work import rogues_at_work
from tests.stack.conftest import Running, started

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with started(request.session) as stack:
        yield stack


async def test_a_fleet_goes_on_beside_rogues(running: Running) -> None:
    replay, sending = running.replay(15_000)
    async with (
        rogues_at_work(running, seed=11, per_s=8.0) as rogues,
        OperatorClient(running.login("ana"), "ana") as ana,
    ):
        ana.send_to_person(running.stack.base.xmpp.coordinator, "pause")
        dry = await ana.wait_for_message(running.bot("To do it"), 30)
        await running.account(replay, sending)
        await running.until(
            lambda: all(sum(x.values()) > 30 for x in rogues.done.values()),
            "the rogues did their worst",
        )
        ana.send_to_person(
            running.stack.base.xmpp.coordinator,
            f"confirm {dry.text.partition('confirm ')[2].split()[0]}",
        )
        await ana.wait_for_message(running.bot("On it: pause"), 30)
        ana.send_to_person(running.stack.base.xmpp.coordinator, "node evil-1")
        said = (await ana.wait_for_message(running.bot("evil-1 is"), 30)).text
        assert all(line.isprintable() for line in said.split("\n")), said
        assert "00000" not in said, "no number that cannot be"
    rogues.check(running)
