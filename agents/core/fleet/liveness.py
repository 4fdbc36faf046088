"""Which workers are gone. Presence proves that a worker is alive, but its absence does not prove
death (PROTOCOL 4), least of all when the coordinator itself was away (PROTOCOL 2.10).

All times are the coordinator's own monotonic clock, in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agents.core.effects import Effect, Ping, ReadOffsets, WakeAt
from agents.core.fleet.fleet import Fleet, View
from agents.core.fleet.handover import Tenancy, tenancy
from agents.core.model.topology import Partition

SILENT_S = 3.0  # without a sign of life, then a ping; the shell waits as long for its answer
AWAY_GRACE_S = 15.0  # after the coordinator is back, silence counts for nothing
LEFT_S = 0.2  # until an `unavailable` is believed: the server itself may be going down
MASS_S = 5.0
MASS_SHARE = 0.30
CUT_OFF_S = 20.0
"""A worker that says for this long that it has no connection to Kafka, while the leader and most
others have one, is gone: its partitions would wait with it."""
STAND_STILL_S = 2.0  # between two readings of the committed offsets


@dataclass(frozen=True, slots=True)
class Gone:
    """This worker must be fenced."""

    worker: str
    why: str


@dataclass(slots=True)
class Liveness:
    """Suspicions; the facts are in Fleet. `departures`: when each worker's session closed, kept
    until it returns. `still`: departed workers whose committed offsets do not advance.

    If more than MASS_SHARE of the workers with a lease depart within MASS_S, the cause may be the
    XMPP server: then only workers whose committed offsets stand still as well count as gone."""

    link_up: bool = False
    kafka_up: bool = False
    writes_taken: bool = True  # False while the topic `placement` refuses our writes
    quiet_until: float = 0.0
    departures: dict[str, float] = field(default_factory=dict)
    first_offsets: dict[Partition, int] | None = None
    read_at: float | None = None
    still: set[str] = field(default_factory=set)

    def can_command(self) -> bool:
        """Whether XMPP and Kafka are reachable and writes accepted; if not, nothing may be
        concluded or commanded."""
        return self.link_up and self.kafka_up and self.writes_taken

    def begin_grace_period(self, now: float) -> None:
        """XMPP or Kafka is back, or accepts writes again: for AWAY_GRACE_S no worker is taken for
        dead because of silence."""
        self.quiet_until = now + AWAY_GRACE_S
        self._forget_mass_departure()

    def note_departure(self, worker: str, now: float) -> None:
        """The session of a worker has closed. `now`: monotonic s."""
        self.departures[worker] = now

    def note_return(self, worker: str) -> None:
        self.departures.pop(worker, None)
        self.still.discard(worker)

    def _forget_mass_departure(self) -> None:
        self.departures.clear()
        self.still.clear()
        self.first_offsets, self.read_at = None, None

    def check_workers(self, fleet: Fleet, now: float) -> Iterator[Effect | Gone]:
        """Pings to send, offsets to read, and the workers that are gone; nothing unless
        `can_command`."""
        if not self.can_command():
            return
        # The mass check comes first: it decides how a closed session is judged below.
        mass = self._is_mass_departure(fleet, now)
        if mass:
            yield from self._watch_offsets(fleet, now)
        else:
            self.first_offsets, self.read_at = None, None
        few_cut_off = self._are_few_cut_off(fleet)
        for view in fleet.views.values():
            if few_cut_off and self._is_cut_off(view, now) and not view.fencing:
                yield Gone(view.spec.worker, "it has had no connection to Kafka for too long")
                continue
            if fleet.statuses[view.spec.worker].lease_live and not view.fencing:
                yield from self._check_worker(view, mass, now)

    def _check_worker(self, view: View, mass: bool, now: float) -> Iterator[Effect | Gone]:
        worker = view.spec.worker
        if view.present:
            if (
                now - view.heard_at > SILENT_S
                and view.pinged_at is None
                and now >= self.quiet_until
            ):
                view.pinged_at = now
                yield Ping(worker)
        elif view.left_at is not None:
            if mass and worker not in self.still:
                return
            if now - view.left_at >= LEFT_S:
                yield Gone(worker, "its session closed")
            else:
                yield WakeAt(view.left_at + LEFT_S - now + 0.005)
        elif now >= self.quiet_until:
            yield Gone(worker, "it did not come back")

    def _is_cut_off(self, view: View, now: float) -> bool:
        since = view.cut_at
        return since is not None and now - max(since, self.quiet_until) >= CUT_OFF_S

    @staticmethod
    def _are_few_cut_off(fleet: Fleet) -> bool:
        live = [v for v in fleet.views.values() if fleet.statuses[v.spec.worker].lease_live]
        return 2 * sum(v.cut_at is not None for v in live) < len(live)

    # ---- mass departures ----

    def _is_mass_departure(self, fleet: Fleet, now: float) -> bool:
        # Departures do not expire between the two readings: the second needs the same workers.
        if self.first_offsets is None and self.read_at is None:
            self.departures = {w: t for w, t in self.departures.items() if now - t <= MASS_S}
        live = sum(tenancy(lease) is Tenancy.LIVE for lease in fleet.leases.values())
        return len(self.departures) >= 2 and len(self.departures) > MASS_SHARE * live

    def _watch_offsets(self, fleet: Fleet, now: float) -> Iterator[Effect]:
        if self.read_at is None or now - self.read_at >= STAND_STILL_S:
            self.read_at = now
            mine = [p for w in self.departures for p in fleet.owned_by(w)]
            yield ReadOffsets(tuple(mine))
            yield WakeAt(STAND_STILL_S + 0.01)

    def note_offsets(self, fleet: Fleet, offsets: Mapping[Partition, int]) -> None:
        """The outcome of ReadOffsets. The second reading shows which workers stand still."""
        before, self.first_offsets = self.first_offsets, dict(offsets)
        if before is None:
            return
        for worker in self.departures:
            owned = fleet.owned_by(worker)
            if all(before.get(p) == offsets.get(p) for p in owned):
                self.still.add(worker)
