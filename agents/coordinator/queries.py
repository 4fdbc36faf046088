"""Performs the core's queries (Errand): one function for each kind of value. It decides nothing.

Up to TOGETHER queries run at a time, each within ERRAND_S. An error becomes a text for the person
who asked. An unforeseen error is logged under an id, which the text names, and does not end the
process."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError as AnyKafkaError

from agents import settings
from agents.base import log
from agents.base.errors import GeolaneError, PlaceUnknown
from agents.core.effects import Errand
from agents.core.events import QueryFinished
from agents.core.fleet.queries import ERRAND_S
from agents.core.fleet.rewinds import (
    COUNTED_AT_MOST,
    AwaitCommitted,
    LookBack,
    LookOver,
    Past,
    ReadCommitted,
    Standing,
)
from agents.core.model.charts import Picture, Plot
from agents.core.model.geo import PlaceAnswer
from agents.core.model.topology import Partition, WorkerKind, kind_of
from agents.core.operators.charts import Drawn, MapWanted, PlotWanted, plot_from_lines
from agents.core.operators.places import OfflinePlaceQuery
from agents.geodata.gazetteer.index import ATTRIBUTION
from agents.geodata.gazetteer.load import load_place_index
from agents.journal.store import Journal
from agents.kafka.connection import make_committed_reader, stop_client, to_geolane_error
from agents.kafka.offsets import Offsets
from agents.observe.charts import Drawing
from agents.xmpp.election import CoordinatorLink

TOGETHER = 4

Run = Callable[[Any], Awaitable[object]]  # Any: each takes the value that it is entered for
_log = log.get_logger("coordinator")


class QueryPerformer:
    """`kinds`: the value's class -> the function that takes the value and returns the result."""

    def __init__(self, kinds: Mapping[type, Run]) -> None:
        self._kinds = dict(kinds)
        self._places = asyncio.Semaphore(TOGETHER)

    async def perform_query(self, errand: Errand) -> QueryFinished:
        """Perform the query. Never raises: the answer has the error."""
        kind = type(errand.what)
        try:
            async with asyncio.timeout(ERRAND_S), self._places:
                return QueryFinished(errand.ref, await self._kinds[kind](errand.what))
        except TimeoutError:
            why = f"No answer within {ERRAND_S:.0f} s; try again."
        except GeolaneError as e:
            why = str(e)
        except Exception:  # noqa: BLE001 - the boundary: it is logged and reported
            name = f"fault {secrets.token_hex(2)}"
            _log.exception(
                "fault_outlived", name=name, what="errand", about=repr(errand.what)[:1000]
            )
            why = f"That failed because of a bug of mine ({name}); my log has the details."
        _log.warning("errand_failed", what=kind.__name__, error=why)
        return QueryFinished(errand.ref, error=why)


# Queries of `rewind` (core/fleet/rewinds.py)

LOOK_S = 0.01
COUNT_BOUND_S = 15.0


class Rewinding:
    """Reads the extent, the commits and the event counts of partitions. `offsets`: readers of the
    consumer groups."""

    def __init__(self, kafka: settings.Kafka, offsets: Mapping[WorkerKind, Offsets]) -> None:
        self._kafka, self._offsets = kafka, offsets

    async def read_past(self, look: LookBack) -> Past:
        """The past of one partition, with the rewind's target and the number of events after it.
        Raises KafkaUnavailable, KafkaError."""
        p = look.partition
        reader = self._offsets[kind_of(p, self._offsets)]
        begin, end = (
            (await reader.read_beginning_offsets([p]))[p],
            (await reader.read_end_offsets([p]))[p],
        )
        found = await self.read_committed(ReadCommitted(p))
        committed = found[0] if found is not None else -1
        target = look.offset
        if target is None:
            at = (await reader.read_offsets_since(look.since_ms or 0, [p]))[p]
            target = at if at >= 0 else None
        events = None
        if (
            target is not None
            and begin <= target < committed
            and committed - target <= COUNTED_AT_MOST
        ):
            events = await self._count_events(p, target, committed)
        return Past(begin, end, committed, target, events)

    async def read_standings(self, look: LookOver) -> dict[Partition, Standing]:
        """Extent and committed offset of several partitions. Raises KafkaUnavailable,
        KafkaError."""
        found = {}
        for kind, reader in self._offsets.items():
            some = [p for p in look.partitions if kind.works(p)]
            if not some:
                continue
            if kind.tasks:
                for p, at in (await reader.read_committed_offsets(some)).items():
                    found[p] = Standing(0, at[0] if at else 0, at[0] if at else None)
                continue
            begins, committed = (
                await reader.read_beginning_offsets(some),
                await reader.read_committed_offsets(some),
            )
            ends = await reader.read_end_offsets(some)
            since = (
                await reader.read_offsets_since(look.since_ms, some)
                if look.since_ms is not None
                else {}
            )
            for p in some:
                at = committed[p]
                later = since.get(p, -1)
                found[p] = Standing(
                    begins[p], ends[p], None if at is None else at[0], later if later >= 0 else None
                )
        return found

    async def _count_events(self, p: Partition, first: int, behind: int) -> int | None:
        """The number of committed records from offset `first` up to `behind`, without markers and
        aborted records; None if counting takes too long."""
        consumer = make_committed_reader(
            self._kafka,
            auto_offset_reset="none",
            fetch_max_wait_ms=20,
            max_partition_fetch_bytes=4 << 20,
        )
        tp, count = TopicPartition(p.kafka_topic, p.n), 0
        try:
            async with asyncio.timeout(COUNT_BOUND_S):
                await consumer.start()
                consumer.assign([tp])
                consumer.seek(tp, first)
                while await consumer.position(tp) < behind:
                    for records in (await consumer.getmany(timeout_ms=50)).values():
                        count += sum(r.offset < behind for r in records)
        except TimeoutError:
            return None
        except (AnyKafkaError, OSError) as e:
            raise to_geolane_error(e, f"count the events of {p.label}") from e
        finally:
            await stop_client(consumer.stop())
        return count

    async def read_committed(self, what: ReadCommitted) -> tuple[int, str] | None:
        """The committed offset and its metadata. Raises KafkaUnavailable, KafkaError."""
        p = what.partition
        return (await self._offsets[kind_of(p, self._offsets)].read_committed_offsets([p]))[p]

    async def await_committed(self, what: AwaitCommitted) -> None:
        """Wait until the commit shows. The query's time limit bounds it. Raises KafkaUnavailable,
        KafkaError."""
        while True:
            at = await self.read_committed(ReadCommitted(what.partition))
            if at is not None and at[0] == what.offset:
                return
            await asyncio.sleep(LOOK_S)


# Places


async def find_place_offline(what: OfflinePlaceQuery) -> PlaceAnswer:
    """Find it in the table of the gazetteer, which the first query loads. Raises GeoError."""
    index = await asyncio.to_thread(load_place_index)
    try:
        place = index.name_at(*what.at) if what.at else index.find(what.text)
    except PlaceUnknown as e:
        return PlaceAnswer(None, ATTRIBUTION, str(e))
    return PlaceAnswer(place, ATTRIBUTION)


# Pictures


class Pictures:
    """Draws pictures and uploads them for people's clients."""

    def __init__(self, journal: Journal, link: CoordinatorLink) -> None:
        self._journal, self._link, self._drawing = journal, link, Drawing()

    async def draw_map(self, wanted: MapWanted) -> Drawn:
        """Draw the map. Raises PictureError, XmppError."""
        return await self._upload_picture("map.png", wanted.map)

    async def draw_plot(self, wanted: PlotWanted) -> Drawn:
        """Draw a plot from the journal. Raises PictureError, XmppError, JournalError; OperatorError
        if there is nothing to draw."""
        column, span = wanted.measure.column, (wanted.since_ms, wanted.until_ms)
        worst = await self._journal.worst_lanes(column, wanted.worst, *span) if wanted.worst else []
        lines = await self._journal.read_lines(column, [*wanted.names, *worst], *span)
        return await self._upload_picture("plot.png", plot_from_lines(wanted, lines))

    async def _upload_picture(self, name: str, picture: Picture) -> Drawn:
        url = await self._link.upload_file(name, await self._drawing.draw_png(picture), "image/png")
        return Drawn(url, picture if isinstance(picture, Plot) else None)
