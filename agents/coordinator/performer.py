"""Performs the core's effects on Kafka, XMPP and the journal, and returns their outcomes as events.
It decides nothing.

Kafka's effects are performed one after the other, in order: a write that is queued before a fence
is committed before the fence. A write that the topic `placement` refuses is repeated until the
topic takes it, and all later ones wait. XMPP commands run concurrently, messages to people are sent
in order, and plans are made in a thread."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial

from agents.base import log
from agents.base.errors import (
    CommandRefused,
    KafkaError,
    KafkaUnavailable,
    LeadershipLost,
    NoAnswer,
    NotConnected,
    StaleEpoch,
    TransactionUndecided,
    XmppError,
)
from agents.base.worker_thread import WorkThread
from agents.coordinator.queries import QueryPerformer
from agents.core import effects as fx
from agents.core import events as ev
from agents.core.coordinator import AnyEvent
from agents.core.fleet.geo_questions import ANSWER_S
from agents.core.model.feeds import OPERATOR_FEEDS
from agents.core.model.messages import WorkerCommand
from agents.core.model.placement import (
    LEADER_KEY,
    TUNING_KEY,
    Leader,
    encode_intent,
    encode_leader,
    encode_lease,
    encode_placed,
    encode_tuning,
    intent_key,
    lease_key,
)
from agents.core.model.plan import Decided, Moment, PlanningFrame, Scored
from agents.core.model.topology import Partition, WorkerKind, kind_of
from agents.journal.store import Journal
from agents.kafka.broker_clock import read_own_clock_ms
from agents.kafka.leases import LeaseMaker
from agents.kafka.offsets import Offsets
from agents.kafka.placement_log import PlacementLog
from agents.kafka.refusals import PATIENCE_S, NotSent, TransactionRefused
from agents.xmpp.election import CoordinatorLink

KAFKA_SILENT_S = 3.0
"""A leader writes every second; if no write is answered for this long, Kafka is away."""
COMMAND_S = 5.0
PING_S = 3.0
PING_AGAIN_S = 1.0  # after a ping whose outcome says nothing
LEASE_S = 5.0
PLAN_S = 60.0
WRITE_EVERY_S = 1.0
"""Interval at which the record `leader` is written again, so that a loss of the leadership is
noticed (PROTOCOL 2.11), and at which a refused write is retried."""
KAFKA_QUEUE, TALK_QUEUE, SENDING = 10_000, 200, 5_000
THREADS = 100

_log = log.get_logger("coordinator")


class Performer:
    """Performs effects for one leadership. `tell` puts an event into the core's queue; `planner`
    makes a plan and may run in any thread. `now_ms`: Kafka's clock."""

    def __init__(
        self,
        link: CoordinatorLink,
        placement: PlacementLog,
        leases: LeaseMaker,
        offsets: dict[WorkerKind, Offsets],
        journal: Journal,
        tell: Callable[[AnyEvent], None],
        *,
        leader: Leader,
        planner: Callable[[PlanningFrame, Moment], Scored],
        errands: QueryPerformer | None = None,
        now_ms: Callable[[], float] = read_own_clock_ms,
    ) -> None:
        self._now_ms = now_ms
        self._link, self._placement, self._leases, self._offsets = link, placement, leases, offsets
        self._journal, self._tell, self._leader, self._planner = journal, tell, leader, planner
        self._errands = errands or QueryPerformer({})
        self._kafka: deque[fx.MakeLease | fx.Write | fx.ReadOffsets | fx.ReadRelease] = deque()
        self._kafka_wanted = asyncio.Event()
        # The write to repeat before any other effect in Kafka; an empty list: the record `leader`
        # alone; None: nothing to repeat.
        self._unwritten: list[fx.Write] | None = None
        self._refused = ""
        self._plan: fx.PlanWanted | None = None
        self._plan_wanted = asyncio.Event()
        self._talk: asyncio.Queue[fx.Say | fx.Show | fx.Subject | fx.MirrorAffiliations] = (
            asyncio.Queue(TALK_QUEUE)
        )
        self._threads: dict[str, str] = {}
        self._lease_errors: dict[str, str] = {}  # by worker, of the last try
        self._sending: set[asyncio.Task[None]] = set()
        self._wake: asyncio.TimerHandle | None = None
        self._answered_at = time.monotonic()
        self._tried_at = 0.0

    def perform(self, effects: Iterable[fx.Effect], now_ms: int) -> None:
        """Begin to perform the effects; never waits."""
        for effect in effects:
            match effect:
                case fx.MakeLease() | fx.Write() | fx.ReadOffsets() | fx.ReadRelease():
                    if len(self._kafka) >= KAFKA_QUEUE:
                        raise KafkaUnavailable(
                            f"{KAFKA_QUEUE} steps wait for Kafka: this process must end"
                        )
                    self._kafka.append(effect)
                    self._kafka_wanted.set()
                case fx.Send(worker, command):
                    self._start_task(self._send_command(worker, command))
                case fx.AskGeo():
                    self._start_task(self._ask_geo(effect))
                case fx.Ping(worker):
                    self._start_task(self._ping_worker(worker))
                case fx.Publish(item):
                    self._link.publish_item(item)
                case fx.Whisper(jid, text):
                    self._send_whisper(jid, text)
                case fx.Show(url, jid) if jid:
                    self._send_whisper(jid, url, link=True)
                case fx.AnswerAdHoc(ref, answer):
                    self._link.answer_request(ref, answer)
                case fx.Errand():
                    self._start_task(self._perform_errand(effect))
                case fx.Say() | fx.Show() | fx.Subject() | fx.MirrorAffiliations():
                    if self._talk.full():  # drop the oldest message
                        _log.warning("talk_dropped", what=str(self._talk.get_nowait()))
                    self._talk.put_nowait(effect)
                case fx.Note(kind, who, text, data):
                    self._journal.queue_note(now_ms, kind, who, text, data)
                case fx.Fault(name, what, who, event, story):
                    _log.error(
                        "fault_outlived", name=name, what=what, who=who, about=event, story=story
                    )
                case fx.Sampled(samples):
                    self._journal.queue_samples(now_ms, samples)
                case Decided():
                    self._journal.queue_tick(now_ms, self._leader.leader_epoch, effect)
                case fx.WakeAt(after_s):
                    self._schedule_wake(after_s)
                case fx.PlanWanted():
                    self._plan = effect
                    self._plan_wanted.set()

    def _schedule_wake(self, after_s: float) -> None:
        loop = asyncio.get_running_loop()
        when = loop.time() + after_s
        if self._wake is not None and loop.time() <= self._wake.when() <= when:
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wake = loop.call_at(when, lambda: self._tell(ev.Wake()))

    # The planner

    async def run_planner(self) -> None:
        """Make plans in a thread, one at a time, until cancelled. Meanwhile the event loop hears of
        workers that are gone and places their partitions. A failed plan is reported to the core.
        Raises LeadershipLost if a plan takes longer than PLAN_S (a GPU that hangs)."""
        thread = WorkThread("planner")
        try:
            while True:
                await self._plan_wanted.wait()
                self._plan_wanted.clear()
                if (wanted := self._plan) is not None:
                    self._plan = None
                    try:
                        async with asyncio.timeout(PLAN_S) as bound:
                            scored = await thread.run(
                                partial(self._planner, wanted.frame, wanted.moment)
                            )
                    except Exception as e:
                        if bound.expired():
                            raise LeadershipLost(
                                f"no plan was made in {PLAN_S:g} s: the leadership is given up"
                            ) from e
                        self._tell(ev.PlanFailed(wanted.moment, e))
                    else:
                        self._tell(ev.Planned(scored))
        finally:
            thread.stop()

    # Kafka

    def is_kafka_answering(self) -> bool:
        """Whether Kafka has answered a write within KAFKA_SILENT_S. A refusal may take PATIENCE_S
        longer."""
        refused_s = WRITE_EVERY_S + PATIENCE_S if self._refused else 0.0
        return time.monotonic() - self._answered_at <= KAFKA_SILENT_S + refused_s

    async def commit_leader_epoch(self) -> None:
        """Commit the new leader epoch; before that, no command may be sent (PROTOCOL 2.3). If the
        write is refused, the core first receives WriteRefused, and sends no commands."""
        await self._commit_writes([])

    async def run_kafka_effects(self) -> None:
        """Perform Kafka's effects in order, until cancelled. Raises LeadershipLost or
        KafkaUnavailable if the process must end."""
        while True:
            self._kafka_wanted.clear()
            rest_s = max(0.0, self._tried_at + WRITE_EVERY_S - time.monotonic())
            if self._unwritten is not None:
                await asyncio.sleep(rest_s)
                await self._commit_writes(self._unwritten)
                continue
            if not self._kafka:
                try:
                    async with asyncio.timeout(rest_s):
                        await self._kafka_wanted.wait()
                except TimeoutError:
                    await self._commit_writes([])
                continue
            effect = self._kafka.popleft()
            match effect:
                case fx.MakeLease():
                    await self._make_lease(effect)
                case fx.ReadOffsets(partitions):
                    self._tell(ev.OffsetsRead(await self._read_committed(partitions)))
                case fx.ReadRelease():
                    self._tell(await self._read_release(effect))
                case fx.Write():
                    writes = [effect]
                    while (
                        self._kafka
                        and isinstance(more := self._kafka[0], fx.Write)
                        and len(writes) < 500
                    ):
                        if len({p.topic for w in (*writes, more) for p in w.offsets}) > 1:
                            break  # a transaction has one consumer group
                        writes.append(more)
                        self._kafka.popleft()
                    await self._commit_writes(writes)

    async def _commit_writes(self, writes: list[fx.Write]) -> None:
        """Commit all writes in one transaction, in their order; then report them and perform their
        `then`. If nothing was committed and we still lead, the writes are kept to be repeated."""
        records: dict[str, bytes | None] = {LEADER_KEY: encode_leader(self._leader)}
        offsets: dict[str, dict[Partition, tuple[int, str]]] = {}
        for w in writes:
            records |= {p.key: encode_placed(s) for p, s in w.partitions.items()}
            records |= {
                lease_key(worker): encode_lease(lease) for worker, lease in w.leases.items()
            }
            records |= {
                intent_key(name): encode_intent(i) if i else None for name, i in w.intents.items()
            }
            records |= {TUNING_KEY: encode_tuning(w.tuning)} if w.tuning is not None else {}
            for p, at in w.offsets.items():
                offsets.setdefault(kind_of(p).group, {})[p] = at
        self._unwritten = writes
        try:
            await self._placement.write(records, offsets)
        except TransactionRefused as e:
            self._report_refusal(e)
            return
        except NotSent as e:
            _log.warning("placement_not_written", error=str(e))
            return
        finally:
            self._tried_at = time.monotonic()
        self._answered_at, self._unwritten = self._tried_at, None
        # Only what is committed may be said, so `then` comes last.
        for w in writes:
            self._tell(ev.PlacementWritten(w.partitions, w.leases, w.intents, w.tuning))
            self.perform(w.then, int(self._now_ms()))
        if self._refused:
            _log.info("placement_taken")
            self._refused = ""
            self._tell(ev.WriteTaken())

    def _report_refusal(self, refused: TransactionRefused) -> None:
        """Report the refusal. Kafka has answered and would refuse another leader as well, so this
        one stays."""
        self._answered_at = time.monotonic()
        if (why := str(refused)) != self._refused:
            _log.error("placement_refused", error=why)
            self._refused = why
            self._tell(ev.WriteRefused(why))

    async def _make_lease(self, e: fx.MakeLease) -> None:
        try:
            producer_id, producer_epoch = await self._leases.make_lease(e.transactional_id, LEASE_S)
            offsets = await self._read_committed(e.partitions)
        except KafkaError as error:  # also a missing right: the rights may be older than the kind
            if self._lease_errors.get(e.worker) != str(error):
                _log.warning("lease_failed", worker=e.worker, error=str(error))
                self._lease_errors[e.worker] = str(error)
            self._tell(
                ev.LeaseFailed(
                    e.worker,
                    str(error),
                    undecided=isinstance(error, TransactionUndecided),
                    refused=not isinstance(error, KafkaUnavailable),
                )
            )
            return
        self._lease_errors.pop(e.worker, None)
        _log.info("lease_made", worker=e.worker, boot=e.new_boot, producer_epoch=producer_epoch)
        self._tell(
            ev.LeaseMade(
                e.worker, e.new_boot, e.transactional_id, producer_id, producer_epoch, offsets
            )
        )

    async def _read_release(self, e: fx.ReadRelease) -> ev.ReleaseRead:
        parts = [Partition(e.command.topic, g.n) for g in e.answer.lanes]
        try:
            committed = await self._read_committed(parts)
            lost = [p for p in parts if p not in committed]
            ends: dict[Partition, int] = {}
            for kind, reader in self._offsets.items():
                ends |= await reader.read_high_watermarks([p for p in lost if kind.works(p)])
        except KafkaError as error:
            _log.warning("release_not_checked", worker=e.worker, error=str(error))
            return ev.ReleaseRead(e.worker, e.command, e.answer, error=str(error))
        return ev.ReleaseRead(e.worker, e.command, e.answer, committed, ends)

    async def _read_committed(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        found: dict[Partition, int] = {}
        for kind, reader in self._offsets.items():
            mine = [p for p in partitions if kind.works(p)]
            if mine:
                found |= {
                    p: at[0]
                    for p, at in (await reader.read_committed_offsets(mine)).items()
                    if at is not None
                }
        return found

    # XMPP

    def _start_task(self, work: Coroutine[None, None, None]) -> None:
        if len(self._sending) >= SENDING:
            raise NotConnected(f"{SENDING} commands wait for answers: this process must end")
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send_command(self, worker: str, command: WorkerCommand) -> None:
        try:
            answer = await self._link.send_command(worker, command, COMMAND_S)
        except StaleEpoch as e:
            _log.warning(
                "command_stale", worker=worker, command=type(command).__name__, seen=e.seen
            )
            self._tell(ev.CommandWasRefused(worker, command, "conflict", e.seen))
        except CommandRefused as e:
            _log.warning(
                "command_refused", worker=worker, command=type(command).__name__, reason=str(e)
            )
            self._tell(ev.CommandWasRefused(worker, command, e.condition))
        except (NoAnswer, NotConnected) as e:
            _log.warning(
                "command_unanswered", worker=worker, command=type(command).__name__, reason=str(e)
            )
            self._tell(ev.CommandUnanswered(worker, command))
        except Exception:  # noqa: BLE001 - the boundary: it is logged and reported
            _log.exception(
                "fault_outlived", what="answer", who=worker, command=type(command).__name__
            )
            self._tell(ev.CommandUnanswered(worker, command))
        else:
            self._tell(ev.Answered(worker, command, answer))

    async def _ask_geo(self, e: fx.AskGeo) -> None:
        answer, why = None, ""
        try:
            answer = await self._link.ask_geo(e.worker, e.command, ANSWER_S)
        except (CommandRefused, NoAnswer, NotConnected) as error:
            why = str(error)
            _log.warning(
                "geo_not_answered", worker=e.worker, what=type(e.command).__name__, reason=why
            )
        except Exception:  # noqa: BLE001 - the boundary: it is logged and reported
            why = "a bug of mine; my log has the details"
            _log.exception("fault_outlived", what="geo", who=e.worker)
        self._tell(ev.GeoAnswered(e.worker, e.command, answer, why))

    async def _ping_worker(self, worker: str) -> None:
        try:
            await self._link.ping_worker(worker, PING_S)
        except NoAnswer:
            self._tell(ev.Ponged(worker, False))
        except NotConnected as e:
            _log.warning("ping_undecided", worker=worker, why=str(e))
            await asyncio.sleep(PING_AGAIN_S)
            self._tell(ev.Ponged(worker, None))
        except Exception:  # noqa: BLE001 - the boundary: it is logged and reported
            _log.exception("fault_outlived", what="ping", who=worker)
            self._tell(ev.Ponged(worker, None))
        else:
            self._tell(ev.Ponged(worker, True))

    async def _perform_errand(self, errand: fx.Errand) -> None:
        self._tell(await self._errands.perform_query(errand))

    def _send_whisper(self, jid: str, text: str, *, link: bool = False) -> None:
        try:
            self._link.send_to_person(jid, text, link=link)
        except XmppError as e:
            _log.warning("not_said", to=jid, error=str(e))

    async def run_messages(self) -> None:
        """Send messages to people in order, until cancelled; one that cannot be sent is logged and
        dropped."""
        while True:
            effect = await self._talk.get()
            try:
                match effect:
                    case fx.Say(text, thread, reply, about):
                        said = await self._link.send_to_room(
                            text,
                            correct=self._threads.get(thread) if thread else None,
                            reply=(reply.nick, reply.id) if reply is not None else None,
                            about=about,
                        )
                        if thread:
                            if len(self._threads) >= THREADS:
                                self._threads.clear()
                            self._threads.setdefault(thread, said)
                    case fx.Show(url):
                        await self._link.send_to_room(url, link=True)
                    case fx.Subject(text):
                        self._link.set_subject(text)
                    case fx.MirrorAffiliations(affiliations):
                        await self._link.mirror_affiliations(affiliations, OPERATOR_FEEDS)
            except XmppError as e:
                _log.warning("not_said", what=type(effect).__name__, error=str(e))

    async def stop(self) -> None:
        """Cancel commands and queries in flight. The next leader repeats a command that was not
        answered."""
        if self._wake is not None:
            self._wake.cancel()
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
