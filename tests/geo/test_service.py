"""The geo worker's stage in the real engine, against a real broker: exactly once, whatever becomes
of the worker and of its provider."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import orjson
import pytest

from agents.base.errors import ProviderFailed, ProviderUnavailable
from agents.core.model.places import Place
from agents.core.model.topology import ASIDE
from agents.geo import lookups
from agents.geo.lookups import Lookups
from agents.geo.stage import GeoStage
from agents.worker import lane
from tests.fixtures.kafka import KafkaServer
from tests.geo.support import TableGeocoder, unplaced
from tests.once import require_once
from tests.worker.support import Rig, Running, rig, until
from tests.worker.test_engine import LIMIT, done

PLACES = ("Chicago", "Paris", "Atlantis")


def geo(r: Rig, geocoder: TableGeocoder) -> GeoStage:
    finder = Lookups(geocoder, asyncio.get_running_loop())
    return GeoStage(finder, r.raw, LIMIT, 300_000, 3600.0, r.topics)


async def fill(r: Rig, first: int, count: int, place: Callable[[int], str]) -> None:
    """As a router writes them; each has a source of its own, in turns in each raw partition."""
    for n in range(r.raw):
        for i in range(first, first + count):
            if i % r.raw == n:
                src = [("geolane-src", b"%s/%d/%d" % (r.topics.raw.encode(), n, i))]
                await r.fill(r.topics.unplaced, 0, [unplaced(i, place(i))], headers=src)


async def fill_fast(r: Rig, first: int, count: int) -> None:
    """Many, with the same header: they are told apart by their ids."""
    values = [unplaced(i, PLACES[i % 3]) for i in range(first, first + count)]
    await r.fill(r.topics.unplaced, 0, values)


async def ids(r: Rig, topic: str, at_least: int) -> Counter[str]:
    return Counter(orjson.loads(x.value)["id"] for x in await r.read(topic, at_least))


def fault(w: Running) -> str:
    return w.engine.take_load()[0][0].fault


async def test_places_go_back_to_their_partitions_and_the_rest_is_dead(
    kafka_server: KafkaServer,
) -> None:
    async with rig(kafka_server, raw=3) as r:
        await fill(r, 0, 9, lambda i: PLACES[i % 3])
        w = await r.engine(geo(r, TableGeocoder()))
        await w.assign((0, 1, 0))
        await until(lambda: done(w) == 9)
        raw, dead = await r.read(r.topics.raw, 6), await r.read(r.topics.dead, 3)
        for x in raw:
            headers = dict(x.headers)
            assert headers["geolane-src"].split(b"/")[-2] == b"%d" % x.partition
            assert headers["geolane-placed"] == b"table city"
            origin = orjson.loads(x.value)["origin"]
            assert origin["lat"] == {"Chicago": 41.85, "Paris": 48.85341}[origin["place"]]
        assert {dict(x.headers)["geolane-reason"] for x in dead} == {b"unknown_place"}
        answer = await w.release((0, 1))
        found = await r.committed(r.topics.unplaced, 0, r.topics.geo_group)
        assert found is not None
        assert found[0] == answer.lanes[0].offset
        assert orjson.loads(found[1]) == {"in": 9, "out": 6, "filtered": 0, "dead": 3}


async def test_nothing_is_lost_or_doubled_when_the_worker_is_fenced_in_the_middle(
    kafka_server: KafkaServer,
) -> None:
    async with rig(kafka_server, raw=1) as r:
        count = 12_000
        await fill_fast(r, 0, count)
        a = await r.engine(geo(r, TableGeocoder()), "a")
        await a.assign((0, 1, 0))
        await until(lambda: done(a) > 0)
        await r.fence(a)
        await a.kill()
        at = await r.committed(r.topics.unplaced, 0, r.topics.geo_group)
        assert at is not None
        b = await r.engine(geo(r, TableGeocoder()), "b")
        await b.assign((0, 2, at[0]))
        await until(lambda: done(b) == count, 60)
        raw, dead = await ids(r, r.topics.raw, 8000), await ids(r, r.topics.dead, 4000)
        require_once((raw + dead).elements(), (f"p{i}" for i in range(count)))


async def test_what_cannot_be_asked_now_waits_and_is_told_and_goes_on(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "HOLD_S", 0.1)
    monkeypatch.setattr(lane, "MAX_HOLD_S", 0.2)
    async with rig(kafka_server, raw=1) as r:
        geocoder = TableGeocoder(away="the calls of today are used up")
        await fill_fast(r, 0, 6)
        w = await r.engine(geo(r, geocoder))
        await w.assign((0, 1, 0))
        await until(lambda: fault(w).startswith(ASIDE))
        assert "the calls of today are used up; the events wait, for up to 60 min" in fault(w)
        asked = geocoder.asked.total()
        await until(lambda: geocoder.asked.total() >= asked + 3)
        assert done(w) == 0
        geocoder.away = ""
        await until(lambda: done(w) == 6)
        assert not fault(w)
        assert [orjson.loads(x.value)["id"] for x in await r.read(r.topics.raw, 4)] == [
            *("p0", "p1", "p3", "p4")
        ]


async def test_a_batch_goes_on_as_far_as_its_places_are_known(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider fails at one place: what is before it goes on at once."""
    monkeypatch.setattr(lookups, "LOOK_S", 0.2)
    monkeypatch.setattr(lookups, "FIRST_S", 0.2)
    monkeypatch.setattr(lane, "HOLD_S", 0.1)
    monkeypatch.setattr(lane, "MAX_HOLD_S", 0.2)

    class Stuck(TableGeocoder):
        held = True

        async def find(self, text: str, country: str = "") -> object:  # type: ignore[override]
            while text == "Paris" and self.held:
                await asyncio.sleep(0.01)
            return await super().find(text, country)

    async with rig(kafka_server, raw=1) as r:
        geocoder = Stuck()
        await r.fill(r.topics.unplaced, 0, [unplaced(i) for i in range(5)])
        await r.fill(r.topics.unplaced, 0, [unplaced(5, "Paris")])
        await r.fill(r.topics.unplaced, 0, [unplaced(i) for i in range(6, 9)])
        w = await r.engine(geo(r, geocoder))
        await w.assign((0, 1, 0))
        await until(lambda: done(w) == 5)
        await until(lambda: "table has not answered for 0.2 s" in fault(w))
        answer = await w.release((0, 1))
        assert answer.lanes[0].offset == 5, "a release does not wait for the provider"
        b = await r.engine(geo(r, geocoder), "b")
        await b.assign((0, 2, answer.lanes[0].offset))
        geocoder.held = False
        await until(lambda: done(b) == 9)
        found = await r.read(r.topics.raw, 9)
        assert [orjson.loads(x.value)["id"] for x in found] == [f"p{i}" for i in range(9)]


async def test_a_worker_that_is_killed_while_its_events_wait_loses_and_doubles_none(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a batch: what is before the event that waits is sent already."""
    monkeypatch.setattr(lane, "HOLD_S", 0.1)
    monkeypatch.setattr(lane, "MAX_HOLD_S", 0.2)

    class Half(TableGeocoder):
        async def find(self, text: str, country: str = "") -> Place:
            if text == "Paris" and self.away_at_paris:
                raise ProviderUnavailable("the calls of today are used up", 1.0)
            return await super().find(text, country)

        away_at_paris = True

    async with rig(kafka_server, raw=1) as r:
        geocoder = Half()
        await fill_fast(r, 0, 9)
        a = await r.engine(geo(r, geocoder), "a")
        await a.assign((0, 1, 0))
        await until(lambda: "used up" in fault(a))
        await a.kill()
        b = await r.engine(geo(r, geocoder), "a")  # under the same name: it fences the other
        at = await r.committed(r.topics.unplaced, 0, r.topics.geo_group)
        assert at is not None
        assert at[0] == 1
        await b.assign((0, 2, at[0]))
        await until(lambda: "used up" in fault(b))
        geocoder.away_at_paris = False
        await until(lambda: done(b) == 9)
        assert await ids(r, r.topics.raw, 6) | await ids(r, r.topics.dead, 3) == Counter(
            f"p{i}" for i in range(9)
        )


async def test_a_name_at_which_the_provider_always_fails_does_not_hold_up_the_others(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "HOLD_S", 0.1)
    monkeypatch.setattr(lane, "MAX_HOLD_S", 0.2)

    class Failing(TableGeocoder):
        async def find(self, text: str, country: str = "") -> Place:
            if text == "Paris":
                raise ProviderFailed("table answers with status 500", 1.0)
            return await super().find(text, country)

    async with rig(kafka_server, raw=1) as r:
        await fill_fast(r, 0, 12)
        w = await r.engine(geo(r, Failing()))
        await w.assign((0, 1, 0))
        await until(lambda: done(w) == 12)
        assert set(await ids(r, r.topics.raw, 4)) == {"p0", "p3", "p6", "p9"}
        dead = await r.read(r.topics.dead, 8)
        details = {dict(x.headers)["geolane-detail"] for x in dead}
        assert (
            b"'Paris': the provider answers others, and fails at this name: table answers with "
            b"status 500"
        ) in details
