"""Standing troubles: told once when they begin and once when they end, and every front leads with
them."""

from __future__ import annotations

from agents.core import events as ev
from agents.core.effects import Publish, Say, Subject
from agents.core.events import Led, QuestionAsked, TelemetryIn
from agents.core.fleet.incidents import SUBJECT_AFTER_S, WELL_AGAIN_S, News
from agents.core.fleet.troubles import PER_KIND, TEXT_AT_MOST, TroubleKind, Troubles
from agents.core.model.feeds import AlertItem, FleetSummary, Severity
from agents.core.model.messages import LaneLoad, Telemetry
from agents.core.model.topology import ASIDE, WorkerKind
from tests.core.world import World, new_core

P = WorkerKind.NODE.partition(3)


def alerts(w: World, kind: TroubleKind) -> list[Severity]:
    items = [p.item.element for p in w.published]
    return [x.severity for x in items if isinstance(x, AlertItem) and x.kind == kind]


def report(w: World, fault: str) -> None:
    """Its owner says of lane 3 that it stands still (or, empty, that it works)."""
    placed = w.partitions[P]
    proc = w.procs[placed.worker]
    proc.seq += 1
    lane = LaneLoad(P.topic, P.n, placed.epoch, 0.0, 0, 0.0, 0.0, fault)
    w.tell(TelemetryIn(placed.worker, Telemetry(proc.boot, proc.seq, "", 0.1, 40.0, lanes=(lane,))))


def ask(w: World, text: str) -> str:
    w.tell(ev.AffiliationsRead({"ana@d": "owner"}))
    before = len(w.said)
    w.tell(QuestionAsked("ana@d", "ana", text, True, "s", None, "m"))
    return "\n".join(w.said[before:])


def test_a_lane_that_stands_still_leads_status_subject_and_feed_until_it_works_again() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    assert ask(w, "!status").startswith("Calm")
    w.published.clear()
    for _ in range(3):
        report(w, "offset missing")
    w.tell(ev.Tick())
    assert alerts(w, TroubleKind.LANE_STOPPED) == [Severity.CRITICAL], "told once"
    status = ask(w, "!status")
    assert status.startswith("Critical, for ")
    assert "lane 3 has stopped on " in status.splitlines()[0]
    assert "Calm" not in status
    summary = [p.item.element for p in w.published if isinstance(p.item.element, FleetSummary)][-1]
    assert summary.troubles is not None
    assert [(r.kind, r.about) for r in summary.troubles.rows] == [("lane_stopped", P.key)]
    report(w, "")
    w.pass_s(WELL_AGAIN_S / 2)
    report(w, "offset missing")
    report(w, "")
    w.pass_s(WELL_AGAIN_S / 2 + 1)
    assert alerts(w, TroubleKind.LANE_STOPPED) == [Severity.CRITICAL], (
        "what comes and goes is not told each time"
    )
    w.pass_s(WELL_AGAIN_S / 2 + 1)
    assert alerts(w, TroubleKind.LANE_STOPPED) == [Severity.CRITICAL, Severity.CALM]
    assert "has stopped" not in ask(w, "!status")


def test_a_lane_that_its_pipeline_holds_up_is_told_once() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    w.published.clear()
    for s in (10, 11):
        report(w, f"{ASIDE}the pipeline has worked on 50 records for {s} s")
    w.tell(ev.Tick())
    assert alerts(w, TroubleKind.LANE_HELD_UP) == [Severity.WARNING]
    assert alerts(w, TroubleKind.LANE_STOPPED) == []
    status = ask(w, "!status").splitlines()[0]
    assert "lane 3 is held up on " in status
    assert "for 11 s. Its other lanes continue." in status
    assert "It is held up: the pipeline has worked on 50 records" in ask(w, "!lane 3")
    owner = w.partitions[P].worker.removeprefix("node-")
    assert "Lane 3 is held up: the pipeline has worked on" in ask(w, f"!node {owner}")
    report(w, "")
    w.pass_s(WELL_AGAIN_S + 1)
    assert alerts(w, TroubleKind.LANE_HELD_UP) == [Severity.WARNING, Severity.CALM]
    assert "held up" not in ask(w, "!status")


def test_a_worker_tells_of_its_own_lanes_alone() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    other = next(x for x in w.procs if x.startswith("node") and x != w.partitions[P].worker)
    lane = LaneLoad(P.topic, P.n, w.partitions[P].epoch, 0.0, 0, 0.0, 0.0, "not mine")
    proc = w.procs[other]
    proc.seq += 1
    w.tell(TelemetryIn(other, Telemetry(proc.boot, proc.seq, "", 0.1, 40.0, lanes=(lane,))))
    assert not w.core.news.troubles.list_worst_first()


def test_a_fleet_without_a_router_says_so() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(20)
    w.crash("router-1")
    w.fair(14, revive=False)
    assert "No router: nothing reaches the lanes" in ask(w, "!status").splitlines()[0]
    w.fair(3)
    assert ask(w, "!status").startswith("Calm")


def test_the_subject_names_the_worst() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    news = News(w.core.fleet)
    news.troubles.set(TroubleKind.WORKER_HELD, "node-1", "1 cannot commit", 90.0, Severity.WARNING)
    news.troubles.set(TroubleKind.LANE_STOPPED, P.key, "lane 3 has stopped on 1: no reason.", 95.0)
    said = [*news.tell_pending(95.0, paused=False, connected=True)]
    said += news.tell_pending(95.0 + SUBJECT_AFTER_S, paused=False, connected=True)
    assert [e.text for e in said if isinstance(e, Subject)] == [
        "geolane: lane 3 has stopped on 1: no reason (+ 1), 3/3 nodes, 6/6 lanes"
    ]
    assert sum(isinstance(e, Publish) for e in said) == 2
    assert sum(isinstance(e, Say) for e in said) == 1, "in one message"


def test_a_long_subject_says_that_it_was_cut() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    news = News(w.core.fleet)
    text = "1 reports a round trip of at least 23.9 ms to broker 1, but others report less."
    news.troubles.set(TroubleKind.PATH_DOUBTED, "1", text, 90.0, Severity.WARNING)
    said = [*news.tell_pending(95.0, paused=False, connected=True)]
    said += news.tell_pending(95.0 + SUBJECT_AFTER_S, paused=False, connected=True)
    [subject] = [e.text for e in said if isinstance(e, Subject)]
    assert subject.endswith(" ..., 3/3 nodes, 6/6 lanes")


def test_they_are_bounded_in_number_and_length_and_are_one_line() -> None:
    t = Troubles()
    for n in range(10 * PER_KIND):
        t.set(TroubleKind.LANE_STOPPED, f"{n}", "a\nb\x1b[31m" + "x" * 2000, 0.0)
    assert len(t.list_worst_first()) == PER_KIND
    assert t.count_by_kind()[TroubleKind.LANE_STOPPED] == PER_KIND
    assert all(len(x.text) <= TEXT_AT_MOST and x.text.isprintable() for x in t.list_worst_first())
    t.set(TroubleKind.KAFKA_AWAY, "", "another kind has its own room", 0.0)
    assert t.list_worst_first()[0].kind is TroubleKind.KAFKA_AWAY


def test_who_looks_at_all_of_them_sets_exactly_those() -> None:
    t = Troubles()
    t.set_exactly(TroubleKind.OFFSET_LOST, {"a": "1", "b": "2"}, 0.0)
    t.set_exactly(TroubleKind.OFFSET_LOST, {"b": "3", "c": "4"}, 5.0)
    assert [(x.about, x.text, x.since_s) for x in t.list_worst_first()] == [
        ("b", "3", 0.0),
        ("c", "4", 5.0),
    ]
    assert [bool(c.ended) for c in t.changes] == [False, False, True, False]


def test_a_transaction_that_cannot_be_decided_is_told_until_its_worker_has_a_lease() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    w.published.clear()
    why = "geolane-node-0: its markers are missing at events.clean 3 17"
    for _ in range(2):
        w.tell(ev.LeaseFailed("node-0", why, undecided=True))
        w.tell(ev.Tick())
    assert alerts(w, TroubleKind.TRANSACTION_UNDECIDED) == [Severity.CRITICAL]
    assert "events.clean 3 17" in ask(w, "!status").splitlines()[0]
    w.tell(ev.LeaseMade("node-0", "", "geolane-node-0", 1, 9, {}))
    w.tell(ev.Tick())
    assert alerts(w, TroubleKind.TRANSACTION_UNDECIDED) == [Severity.CRITICAL, Severity.CALM]


def test_a_leader_whose_record_is_refused_changes_nothing_and_goes_on_by_itself() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    why = (
        "placement/0 refuses: a record batch is larger than max.message.bytes (5,000 bytes in 9 "
        "records; it takes 3,000)"
    )
    before = dict(w.partitions)
    w.published.clear()
    for _ in range(2):
        w.tell(ev.WriteRefused(why))
    owner = w.partitions[P].worker
    w.crash(owner)
    for _ in range(30):
        w.pass_s(1)
    assert not w.kafka, "nothing is to be written, nobody to be fenced"
    assert not w.sends
    assert w.partitions == before
    assert alerts(w, TroubleKind.PLACEMENT_REFUSED) == [Severity.CRITICAL], "told once"
    first = ask(w, "!status").splitlines()[0]
    assert first.startswith("Critical, for ")
    assert f"I cannot write to the topic placement: {why}" in first
    assert "refuses my writes" in ask(w, "!pause")
    w.tell(ev.WriteTaken())
    w.fair(20, revive=False)
    assert w.partitions[P].worker != owner
    assert alerts(w, TroubleKind.PLACEMENT_REFUSED) == [Severity.CRITICAL, Severity.CALM]


def test_a_new_leader_that_may_not_write_that_it_leads_commands_nobody() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    w.core = new_core(w.inv, w.lanes, w.now, 2, w.partitions, w.leases, w.intents, w.tuning)
    w.tell(Led())
    w.tell(ev.WriteRefused("placement/0 refuses: x"))
    w.tell(ev.KafkaUp())
    for worker in list(w.procs):
        w.announce(worker)
    w.pass_s(30)
    assert not w.kafka
    assert not w.sends
    w.tell(ev.WriteTaken())
    w.fair(20)
    assert w.all_at_work()


def test_a_journal_that_cannot_be_written_is_told_until_it_is() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    w.tell(ev.Tick(journal_fault="/j: database or disk is full"))
    assert "My journal cannot be written (/j: database or disk is full)" in ask(w, "!status")
    for _ in range(2):
        w.pass_s(WELL_AGAIN_S + 1)
    assert "My journal is written again." in "\n".join(w.said)
    assert "journal" not in ask(w, "!status")
