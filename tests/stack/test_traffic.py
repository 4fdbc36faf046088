"""Places and traffic in a whole stack (`geolane up --maps demo`), from a server of invented maps to
events and plans: what people, feeds and metrics tell of them, that they are marked as invented, and
that plans can be made again."""

from __future__ import annotations

import asyncio
import re
import zlib
from contextlib import aclosing
from itertools import islice

import orjson
import pytest

from agents.admin.replan import Span, replan_span
from agents.core.geo.context import ContextKind, GeoContext, decode_record
from agents.core.model.answers import CommandAnswer, TrafficData
from agents.core.model.feeds import GEO, GeoItem
from agents.core.model.geo import INDEX
from agents.core.model.topology import TOPIC_CLEAN, TOPIC_GEO_CONTEXT
from agents.core.planning.recording import moment_from_json
from agents.journal.decisions import open_ticks
from agents.local.demo import flights
from agents.local.stack import MAPS_DEMO
from agents.xmpp.operator_client import OperatorClient
from kernels.scoring.choose import choose_numerics
from plugins.feeds import item_from_entry
from tests.cli.held import hold_line
from tests.kafka.support import read_all
from tests.observe.metrics.support import scrape_until
from tests.stack.conftest import Running
from tests.stack.shared.test_fronts import ctl
from tests.stack.test_hotspots import ask, ask_until

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

MAPS, METRICS = MAPS_DEMO, True
INVENTED = "invented by geolane's demonstration"


async def read_context(running: Running) -> list[GeoContext]:
    """All that is in geo.context."""
    records = await read_all(running.stack.base.kafka, TOPIC_GEO_CONTEXT)
    return [decode_record(r.key, r.value) for r in records]


async def wait_for_item(who: OperatorClient) -> GeoItem:
    """The first item of the feed that has figures."""
    async with asyncio.timeout(90), aclosing(who.watch_feed(GEO)) as items:
        async for item in items:
            element = item_from_entry(item.feed, item.item_id, item.payload).element
            if isinstance(element, GeoItem) and element.rows:
                return element
    raise AssertionError("the feed has ended")


async def test_places_are_invented_and_say_so(running: Running) -> None:
    a = running.stack.accounting
    replay, sending = running.replay(40, flights.name_origins(islice(running.stream, 40)))
    await running.account(replay, sending)
    assert (a.unplaced, a.placed + a.dead) == (0, 40)
    clean = await read_all(running.stack.base.kafka, TOPIC_CLEAN)
    assert len(clean) + a.filtered == a.placed > 0
    for record in clean:
        assert orjson.loads(record.value)["origin"]["geo"]["provider"] == "invented"
        assert dict(record.headers)["geolane-placed"].startswith(b"invented ")


async def test_invented_traffic_is_told_as_such_wherever_it_shows(running: Running) -> None:
    replay, sending = running.replay(2000)
    await running.account(replay, sending)
    async with running.in_room("guest") as guest:
        said = await ask_until(running, guest, "!traffic", "Traffic", "is known")
        assert re.search(
            rf"^Traffic of \d+ of 12 lanes is known \(invented, live: {INVENTED}", said
        )
        lane = re.search(r"\nlane .*\n(\d+) +(\d+\.\d\d) ", said)
        assert lane is not None, said
        n, index = lane[1], float(lane[2])
        assert INDEX[0] <= index <= INDEX[1]
        assert "by invented, live" in await ask(running, guest, f"!explain {n}", f"Lane {n}")
        has = r"Its events come from around [-0-9., ]+: .+ \((invented|offline), .+ ago\)"
        await ask_until(running, guest, f"!lane {n}", f"Lane {n}", has)
        item = await wait_for_item(guest)
    assert {row.provider for row in item.rows} == {"invented"}
    assert item.calls > 0
    found = await scrape_until(running.first_port, lambda s: s.value("geolane_traffic_index"))
    assert found.value("geolane_geo_questions_total", command="traffic", outcome="answered")
    assert (found.value("geolane_geo_calls") or 0) > 0


async def test_geo_context_has_each_figure_with_its_end(running: Running) -> None:
    records = await read_context(running)
    traffic = [r for r in records if r.kind is ContextKind.TRAFFIC]
    assert traffic
    assert {r.provider for r in traffic} == {"invented"}
    assert all(INVENTED in r.attribution for r in traffic)
    assert all(0 < r.expires_at - r.fetched_at <= 600 for r in traffic)


async def test_plans_with_traffic_are_made_again_byte_for_byte(running: Running) -> None:
    journal = running.stack.folder.path / "journal.sqlite3"
    numerics = await asyncio.to_thread(choose_numerics, "cpu")

    def told() -> set[float]:
        with open_ticks(journal) as ticks:
            found = [
                moment_from_json(zlib.decompress(t.moment)) for t in ticks.read_between(0, 1 << 50)
            ]
        return {lane.traffic for moment in found for lane in moment.lanes}

    async with asyncio.timeout(60):
        while await asyncio.to_thread(told) <= {1.0}:
            await asyncio.sleep(0.5)
    redone = await asyncio.to_thread(replan_span, journal, Span(0, 1 << 50), numerics)
    assert redone.ticks == redone.same > 0


async def test_a_program_reads_each_lanes_index(running: Running) -> None:
    code, out, err = await ctl(running, "traffic", "--json", user="guest")
    said = hold_line(out, CommandAnswer)
    assert (code, err, said.ok) == (0, "", True)
    assert isinstance(said.data, TrafficData)
    assert len(said.data.rows) == said.data.total > 0
    assert all(INDEX[0] <= row.index <= INDEX[1] for row in said.data.rows)
