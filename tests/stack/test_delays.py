"""Three sites and one broker with real delays between them, as `geolane up --delays` has them."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agents.settings import load_settings
from tests.stack.conftest import Running, started

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

FAR = {"sfo": 73.0, "mwh": 69.0}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def distant(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with started(
        request.session, sites="iad,sfo,mwh", delays="azure", broker_at="iad"
    ) as stack:
        yield stack


async def test_workers_of_a_far_site_reach_kafka_through_its_delay_only(distant: Running) -> None:
    stack = distant.stack
    assert stack.delays is not None
    assert stack.delays.rtt_ms == {"iad": 0.0, **FAR}
    at = {
        w.site: load_settings(stack.folder.settings / f"{w.worker}.toml").kafka.bootstrap
        for w in stack.workers
        if w.worker.startswith("node-")
    }
    assert len(set(at.values())) == 3
    assert at["iad"] == stack.base.kafka.bootstrap
    await distant.account(*distant.replay(1000))
    proxy = stack.servers.proxy
    assert proxy is not None
    counts = await proxy.read_counts()
    assert counts.keys() == FAR.keys()
    for count in counts.values():
        assert count.open > 0
        assert count.bytes_up > 0
        assert count.bytes_down > 0


async def test_nothing_is_lost_when_the_delaying_proxy_dies(distant: Running) -> None:
    """Every far node loses all of its connections at once, in the middle of its transactions."""
    proxy = distant.stack.servers.proxy
    assert proxy is not None
    before = proxy.pid
    assert before is not None
    replay, sending = distant.replay(4000)
    await replay.wait_until_sent(1500)
    os.kill(before, signal.SIGKILL)
    await distant.until(lambda: proxy.pid not in (None, before), "the proxy runs again")
    await distant.account(replay, sending)
    counts = await proxy.read_counts()
    assert all(count.open for count in counts.values())
