"""The coordinator's process. It is a standby until it holds the name, then takes the leadership in
Kafka and turns events into effects until it loses either. A fenced coordinator ends (PROTOCOL
2.11), and its supervisor starts another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import TypeVar

from agents.base import log
from agents.base.errors import (
    KafkaUnavailable,
    LeadershipLost,
    NotConnected,
    SettingsError,
    XmppError,
)
from agents.base.supervisor import LAST_END
from agents.base.systemd_notify import Service
from agents.base.text import to_one_line
from agents.coordinator.inventory_watch import InventoryWatch, bind_inventory
from agents.coordinator.metrics import add_coordinator_metrics
from agents.coordinator.performer import Performer
from agents.coordinator.queries import Pictures, QueryPerformer, Rewinding, find_place_offline
from agents.core import events as ev
from agents.core.coordinator import (
    AnyEvent,
    Coordinator,
    Inherited,
    OperatorSetup,
    PlanningSetup,
)
from agents.core.effects import AskGeo
from agents.core.events import InventoryRead, Led, LinkDown, LinkUp, Now, TelemetryIn, XmppEvent
from agents.core.fleet.geo_questions import ANSWER_S
from agents.core.fleet.placing_inputs import PlacingSettings
from agents.core.fleet.plausibility import max_arriving_eps
from agents.core.fleet.reconcile import transactional_id
from agents.core.fleet.rewinds import AwaitCommitted, LookBack, LookOver, ReadCommitted
from agents.core.lanes.lane_map import LaneMap
from agents.core.model.placement import (
    Leader,
    PlacementTable,
    assume_after_loss,
    is_valid_record,
    table_from_records,
    worker_from_lease_key,
)
from agents.core.model.topology import KINDS, WorkerKind
from agents.core.operators.charts import MapWanted, PlotWanted
from agents.core.operators.dead_letters import DeadLook, DeadReplay
from agents.core.operators.history import Search
from agents.core.operators.places import OfflinePlaceQuery
from agents.core.operators.registry import COMMANDS
from agents.core.operators.second_person import commands_by_two
from agents.core.planning.planner import make_scored_plan
from agents.geodata import RTT_TABLE, read_rtt
from agents.geodata.cities import name_place, read_cities
from agents.journal.store import Journal
from agents.kafka import compacted as lanemap_topic
from agents.kafka.broker_clock import BrokerClock, make_steady_clock, read_own_clock_ms
from agents.kafka.connection import retry_until_available
from agents.kafka.dead_letters import DeadLetters
from agents.kafka.hotspots import HotspotReader
from agents.kafka.leases import LeaseMaker
from agents.kafka.offsets import Offsets
from agents.kafka.placement_log import PlacementLog
from agents.kafka.rights import reach_of_lease
from agents.kafka.topic_watch import StreamLooks
from agents.observe.accelerators import AcceleratorWatch
from agents.observe.metrics.endpoint import served
from agents.settings import Settings
from agents.settings.tunables import tunable_values_of
from agents.xmpp.election import CoordinatorLink
from kernels import Numerics, Weights

EVENTS_AT_MOST = 20_000
TICK_S = 1.0
LEADERS_KEPT = 8
"""How many start times the record `leader` has: enough to recognize a crash loop."""
KEEP_EVERY_S = 60.0
KEEP_LANES = 2_000
FORECAST = "forecast"

T = TypeVar("T")
KAFKA_AWAY = (
    "Nobody leads until I can use Kafka, which I cannot now: {why}. The workers keep what they "
    "have. I answer commands again when I have said that I lead."
)
_log = log.get_logger("coordinator")


def choose_kernel(want: str) -> Numerics:
    """Choose the planner's kernel; blocks for seconds. Raises SettingsError for an unknown name."""
    # Imported here, so that only a coordinator loads numba.
    from kernels.scoring.choose import choose_numerics

    try:
        chosen = choose_numerics(want)
    except ValueError as e:
        raise SettingsError(f"coordinator.kernel: {e}") from e
    _log.info("kernel_chosen", name=chosen.name, why=chosen.why)
    return chosen


class CoordinatorProcess:
    """One coordinator process: build it, then `run` it."""

    def __init__(self, settings: Settings) -> None:
        c = settings.coordinator
        self.settings = settings
        self.boot = secrets.token_hex(6)
        self.inventory = InventoryWatch(Path(c.inventory))
        self.rtt = read_rtt(Path(c.rtt_table) if c.rtt_table else RTT_TABLE)
        self.placing = PlacingSettings(
            c.calm,
            self.rtt,
            Weights(c.move_ms, c.miss_ms, c.round_trips),
            warm_s=c.warm_s,
            degraded_ms=c.degraded_ms,
            day_s=c.day_s,
            data_at_kafka=c.data_at == "kafka",
        )
        self.by_two = commands_by_two(c.second_person, COMMANDS)
        self.events: asyncio.Queue[AnyEvent] = asyncio.Queue(EVENTS_AT_MOST)
        self.link = CoordinatorLink(settings.xmpp, self.boot, self.enqueue_event)
        self.devices = AcceleratorWatch()
        # The leader's writes, one a second, correct it; it does not jump when this machine's does.
        self.clock = BrokerClock(make_steady_clock())
        self.flooded = asyncio.Event()
        self.dropped = 0
        self.xmpp_up = False
        self.journal: Journal | None = None
        self.leading: tuple[Coordinator, Performer] | None = None
        self._telling: asyncio.Task[None] | None = None

    def enqueue_event(self, event: AnyEvent | XmppEvent) -> None:
        """Enqueue an event. If the queue is full, telemetry is dropped, since the next item
        replaces it. Any other event would be lost for good, so the process ends instead."""
        if isinstance(event, LinkUp | LinkDown):
            self.xmpp_up = isinstance(event, LinkUp)
        try:
            self.events.put_nowait(event)
        except asyncio.QueueFull:
            if not isinstance(event, TelemetryIn):
                self.flooded.set()
                return
            self.dropped += 1
            if self.dropped in (1, 100, 10_000, 1_000_000):
                _log.warning("telemetry_dropped", count=self.dropped)

    async def run(self, service: Service) -> None:
        """Run until cancelled. Raises LeadershipLost or KafkaUnavailable if the leadership is
        lost."""
        c = self.settings.coordinator
        with self.devices:
            async with (
                Journal(Path(c.journal), c.journal_mb << 20) as journal,
                served(self.settings.metrics, partial(add_coordinator_metrics, self), service),
                asyncio.TaskGroup() as group,
            ):
                self.journal = journal
                # In a thread: numba's import alone takes a second, and compilation many seconds.
                kernel = group.create_task(asyncio.to_thread(choose_kernel, c.kernel))
                group.create_task(journal.run())
                group.create_task(self.link.run())
                group.create_task(self._end_when_flooded())
                group.create_task(self.inventory.run())
                await self._wait_for_name(service, kernel)
                await self._lead_until_lost(journal, await kernel)

    async def _end_when_flooded(self) -> None:
        await self.flooded.wait()
        raise LeadershipLost(
            f"{EVENTS_AT_MOST} events wait: this coordinator cannot keep up, and must end"
        )

    async def _wait_for_name(self, service: Service, kernel: asyncio.Task[Numerics]) -> None:
        while not isinstance(event := await self.events.get(), Led):
            if isinstance(event, LinkUp):
                await kernel  # a standby is ready when it could lead at once
                service.notify_ready("stands by")
            elif isinstance(event, LinkDown):
                service.notify_status("not connected to XMPP")
        service.notify_ready("leads")
        _log.info("name_held", boot=self.boot)

    async def _lead_until_lost(self, journal: Journal, numerics: Numerics) -> None:
        self._telling = None
        kafka = self.settings.kafka
        placement = PlacementLog(kafka, clock=self.clock)
        leases = LeaseMaker(kafka, self.settings.coordinator.transaction_timeout_ms, reach_of_lease)
        offsets = {kind: Offsets(kafka, kind.group) for kind in KINDS}
        try:
            # First, since it fences the previous leader: everything below builds on a table that
            # no earlier leader can change.
            table = table_from_records(
                await self._retry_until_kafka(lambda: placement.take_leadership(is_valid_record))
            )
            lanemap = await self._retry_until_kafka(
                lambda: lanemap_topic.read_newest_lane_map(kafka)
            )
            if lanemap is None:
                raise SettingsError(
                    "there is no lane map in the topic lanemap: see `geolane lanes --help`"
                )
            # The map tells where each lane's cells are, and so which residency rule binds it.
            bound = await asyncio.to_thread(bind_inventory, self.inventory.newest, lanemap)
            await asyncio.to_thread(read_cities)
            # Before any offset is read: a worker whose record is lost may still commit.
            await self._retry_until_kafka(leases.start)
            table = await _fence_after_loss(table, placement.lost, leases)
            for reader in offsets.values():
                await self._retry_until_kafka(reader.start)
            leader = self._next_leader(table)
            core = self._make_core(table, leader, bound, lanemap, numerics)
            # Before the first plan, which would otherwise take each lane for a new one.
            await _restore_forecast(core, journal)
            performer = Performer(
                self.link,
                placement,
                leases,
                offsets,
                journal,
                self.enqueue_event,
                leader=leader,
                planner=partial(make_scored_plan, numerics=numerics, clock=time.perf_counter),
                errands=self._make_query_performer(journal, Rewinding(kafka, offsets)),
                now_ms=self.clock.now_ms,
            )
            await performer.commit_leader_epoch()  # no command may be sent before that
            self.leading = core, performer
            _log.info(
                "leading",
                leader_epoch=leader.leader_epoch,
                boot=self.boot,
                partitions=len(table.placed),
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(performer.run_kafka_effects())
                group.create_task(performer.run_messages())
                group.create_task(performer.run_planner())
                group.create_task(self._send_ticks(performer))
                group.create_task(StreamLooks(kafka, offsets).run(self.enqueue_event))
                hotspots = HotspotReader(kafka, self.clock.now_ms)
                group.create_task(hotspots.run(self.enqueue_event))
                group.create_task(self._store_forecast(core, journal))
                group.create_task(self.inventory.report_changes(bound, lanemap, self.enqueue_event))
                await self._handle_events(core, performer, group)
        finally:
            self.leading = None
            await placement.stop()
            await leases.stop()
            for reader in offsets.values():
                await reader.stop()

    def _next_leader(self, table: PlacementTable) -> Leader:
        """Our record. Workers refuse commands of a lower epoch than one that they have heard, so an
        older leader can command nothing from then on."""
        epoch = (table.leader.leader_epoch if table.leader else 0) + 1
        before = table.leader.starts if table.leader else ()
        return Leader(epoch, self.boot, (*before[1 - LEADERS_KEPT :], self._read_clocks().ms))

    def _make_core(
        self,
        table: PlacementTable,
        leader: Leader,
        bound: InventoryRead,
        lanemap: LaneMap,
        numerics: Numerics,
    ) -> Coordinator:
        settings = self.settings
        expected = [WorkerKind.NODE.partition(n) for n in range(lanemap.lanes)]
        raw_partitions = range(settings.coordinator.raw_partitions)
        expected += [WorkerKind.ROUTER.partition(n) for n in raw_partitions]
        core = Coordinator(
            bound.inventory,
            Inherited(
                leader.leader_epoch,
                expected,
                table.placed,
                table.leases,
                table.intents,
                table.tuning,
            ),
            PlanningSetup(
                bound.places,
                numerics,
                self.placing,
                time.perf_counter,
                lanemap,
                settings.coordinator.traffic_period_s,
                settings.router.engine,
            ),
            OperatorSetup(
                lambda: secrets.token_hex(2),
                tunable_values_of(settings.worker, settings.coordinator.calm),
                settings.kafka.bootstrap,
                name_place,
                settings.xmpp.coordinator,
                self.by_two,
            ),
            self._read_clocks(),
        )
        core.membership.report_rule_warnings(bound.warnings)
        if told := core.lookout.circles.note_leader_start(
            leader.starts, os.environ.get(LAST_END, ""), self._read_clocks().s
        ):
            _log.error("leaders_end_again_and_again", text=told)
        return core

    async def _retry_until_kafka(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Retry while Kafka is away; the room is told once, since nobody leads meanwhile."""

        def tell(e: KafkaUnavailable) -> None:
            _log_kafka_away(e)
            if self._telling is None:
                told = KAFKA_AWAY.format(why=to_one_line(str(e)))
                self._telling = asyncio.create_task(self._tell_room(told))

        return await retry_until_available(attempt, tell)

    async def _tell_room(self, text: str) -> None:
        with contextlib.suppress(NotConnected):
            await self.link.send_to_room(text)

    def _make_query_performer(self, journal: Journal, back: Rewinding) -> QueryPerformer:
        pictures, dead = Pictures(journal, self.link), DeadLetters(self.settings.kafka)
        return QueryPerformer(
            {
                MapWanted: pictures.draw_map,
                PlotWanted: pictures.draw_plot,
                Search: journal.search_entries,
                LookBack: back.read_past,
                LookOver: back.read_standings,
                ReadCommitted: back.read_committed,
                AwaitCommitted: back.await_committed,
                DeadLook: lambda x: dead.find_letters(x.query, x.most),
                OfflinePlaceQuery: find_place_offline,
                AskGeo: lambda x: self.link.ask_geo(x.worker, x.command, ANSWER_S),
                DeadReplay: lambda x: dead.replay_letters(x.query, x.by, x.now_ms, dict(x.upto)),
            }
        )

    async def _handle_events(
        self, core: Coordinator, performer: Performer, group: asyncio.TaskGroup
    ) -> None:
        """The main loop: each event goes into the core, and its effects to the performer."""
        self.enqueue_event(ev.KafkaUp())
        event: AnyEvent = Led()
        try:
            while True:
                now = self._read_clocks()
                if isinstance(event, Led):
                    group.create_task(self._read_affiliations())
                performer.perform(core.handle(event, now), now.ms)
                event = await self.events.get()
        finally:
            await performer.stop()

    async def _send_ticks(self, performer: Performer) -> None:
        up = True
        while True:
            await asyncio.sleep(TICK_S)
            alive = performer.is_kafka_answering()
            if alive != up:
                up = alive
                _log.warning("kafka_back" if up else "kafka_silent")
                self.enqueue_event(ev.KafkaUp() if up else ev.KafkaDown())
                if not up and self.link.standby_count:
                    await self.link.step_down()
                    raise LeadershipLost(
                        "Kafka does not answer and a standby waits: this leader gives up the name"
                    )
            ahead_s = (read_own_clock_ms() - self.clock.now_ms()) / 1000
            fault = self.journal.fault if self.journal is not None else ""
            self.enqueue_event(ev.Tick(self.devices.latest(), round(ahead_s, 3), fault))

    def _read_clocks(self) -> Now:
        return Now(time.monotonic(), int(self.clock.now_ms()))

    async def _store_forecast(self, core: Coordinator, journal: Journal) -> None:
        """Store the forecast, so that the next leader on this machine knows the shape of the day.
        Not with more than KEEP_LANES lanes, since it takes 3 kB per lane."""
        if core.placing.inputs.foresight.forecast.lanes > KEEP_LANES:
            return
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            await journal.store_value(
                FORECAST,
                self._read_clocks().ms,
                core.placing.inputs.foresight.forecast.export_state(),
            )

    async def _read_affiliations(self) -> None:
        """Read the affiliations when a leadership begins; later the room tells their changes."""
        while True:
            try:
                self.enqueue_event(ev.AffiliationsRead(await self.link.read_affiliations()))
                return
            except NotConnected:
                return
            except XmppError as e:
                _log.warning("affiliations_unread", error=str(e))
                await asyncio.sleep(1)


async def _fence_after_loss(
    table: PlacementTable, lost: Collection[str], leases: LeaseMaker
) -> PlacementTable:
    """Fence every worker if the `lost` records of `placement` leave the owners of partitions
    unknown; the workers' next processes continue."""
    found = assume_after_loss(table, lost)
    if found.leases is not table.leases:
        _log.error(
            "placement_spoiled", keys=sorted(lost)[:5], count=len(lost), fenced=len(found.leases)
        )
        workers = {worker_from_lease_key(key) or "" for key in lost} | found.leases.keys()
        for worker in sorted(filter(None, workers)):
            make_lease = partial(leases.make_lease, transactional_id(worker))
            await retry_until_available(make_lease, _log_kafka_away)
    return found


async def _restore_forecast(core: Coordinator, journal: Journal) -> None:
    if state := await journal.read_value(FORECAST):
        try:
            most_eps = max_arriving_eps(core.fleet.inventory)
            if forgotten := core.placing.inputs.foresight.forecast.restore_state(state, most_eps):
                _log.warning(
                    "forecast_forgotten",
                    lanes=forgotten,
                    why=f"more than {most_eps:,.0f} events/s is impossible",
                )
        except ValueError as e:  # stored by another version, for other lanes or another day length
            _log.warning("forecast_begins_anew", why=str(e))


def _log_kafka_away(e: KafkaUnavailable) -> None:
    _log.warning("kafka_away", error=str(e))


async def run(settings: Settings, service: Service | None = None) -> None:
    """Run `geolane coordinator`. A standby counts as ready."""
    await CoordinatorProcess(settings).run(service or Service())
