"""Which workers belong to the running fleet: those of the inventory as it was read last.

A new worker joins at once. A removed worker first hands its lanes over, is fenced when it has none,
and is forgotten when its process is gone: it loses its lease before anything about it is forgotten
(PROTOCOL 2.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agents.core.effects import Effect, Note, Write
from agents.core.events import InventoryRead, InventoryRefused
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.incidents import News
from agents.core.fleet.placing import Placing
from agents.core.fleet.reconcile import make_lease
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.feeds import Severity
from agents.core.model.inventory import Inventory
from agents.core.model.messages import Announcement, Health
from agents.core.model.placement import Lease, drain_intent
from agents.core.model.plan import RuleWarning
from agents.core.model.topology import WorkerKind, WorkerSpec, short_name

GOODBYE_S = 10.0  # a removed worker that is fenced is told so for this long, then forgotten
REMEMBERED = 10_000
NAMED = 6


@dataclass(slots=True)
class Membership:
    """`strangers`: workers that have a live lease although the inventory does not name them, and
    when to fence each (monotonic s)."""

    fleet: Fleet
    placing: Placing
    news: News
    strangers: dict[str, float] = field(default_factory=dict)
    _present: dict[str, Announcement] = field(default_factory=dict)
    _until: dict[str, float] = field(default_factory=dict)  # fenced, and forgotten by then
    _refused: bool = False
    _warned: set[RuleWarning] = field(default_factory=set)

    def note_strangers(self, leases: Mapping[str, Lease]) -> None:
        """Note the workers that have a live lease and are not in the inventory: they are to be
        fenced."""
        self.strangers = {
            w: 0.0 for w, x in leases.items() if w not in self.fleet.views and not x.fenced
        }

    def note_presence(self, said: Announcement) -> None:
        """Note a worker's presence, whether or not the inventory names it: a later one may."""
        if said.health is Health.UNAVAILABLE:
            self._present.pop(said.worker, None)
        elif said.worker in self._present or len(self._present) < REMEMBERED:
            self._present[said.worker] = said

    def note_link_lost(self) -> None:
        """Our own link is gone: after it is back, presences are reported again."""
        self._present.clear()

    def report_rule_warnings(self, warnings: Iterable[RuleWarning]) -> None:
        """Report each of these once, for as long as it lasts."""
        now = set(warnings)
        for w in sorted(now - self._warned, key=lambda w: (w.rule, w.kind)):
            self.news.add_alert(Severity.WARNING, f"rule_{w.kind}", w.rule, w.text)
        self._warned = now

    # ---- a changed inventory ----

    def adopt_inventory(self, event: InventoryRead) -> Iterator[Effect]:
        """Use the new inventory. New workers may be present already: see
        `presences_of_newcomers`."""
        fleet, wanted = self.fleet, event.inventory
        before = dict(fleet.inventory.workers)
        # Removed workers stay in our inventory, with their sites, until they have handed over.
        stay = {w: before[w] for w in before if w not in wanted.workers}
        new = [w for w in wanted.workers if w not in before]
        back = [w for w in wanted.workers if w in fleet.leaving]
        gone = [w for w in stay if w not in fleet.leaving]
        changed = [w for w, spec in wanted.workers.items() if w in before and before[w] != spec]
        places = {spec.site: fleet.inventory.sites[spec.site] for spec in stay.values()}
        fleet.inventory = Inventory(
            places | dict(wanted.sites),
            dict(wanted.workers) | stay,
            wanted.rules,
            wanted.priorities,
            wanted.origin,
        )
        fleet.adopt_workers(stay)
        self._until = {w: at for w, at in self._until.items() if w in stay}
        self.placing.rebuild_frame(event.places)
        for worker in wanted.workers:
            self.strangers.pop(worker, None)
        self._report_changes(event, new, back, gone, changed)
        self.report_rule_warnings(event.warnings)
        yield Note(
            "fleet", "", "the inventory was read", {"new": new, "leaving": gone, "changed": changed}
        )

    def presences_of_newcomers(self, known: Iterable[str]) -> list[Announcement]:
        """The presences of workers that the inventory did not name before (`known`) and that are
        here already."""
        return [
            said for w, said in self._present.items() if w in self.fleet.views and w not in known
        ]

    def report_refused_inventory(self, event: InventoryRefused) -> None:
        """Report an inventory that cannot be used; the one before stays in force."""
        self._refused = True
        self.news.add_line(
            f"The new inventory is not valid, and the previous one stays in force: {event.why}"
        )
        self.news.add_alert(Severity.WARNING, "inventory_refused", event.origin, event.why)

    def _report_changes(
        self,
        event: InventoryRead,
        new: list[str],
        back: list[str],
        gone: list[str],
        changed: list[str],
    ) -> None:
        if self._refused:
            self._refused = False
            self.news.add_alert(
                Severity.CALM,
                "inventory_refused",
                event.inventory.origin,
                "the inventory is valid again",
            )
        said = []
        for workers, what in ((new, "new"), (back, "staying after all")):
            if workers:
                said.append(
                    f"{_format_workers(workers)} {'is' if len(workers) == 1 else 'are'} {what}"
                )
        if gone:
            one, word = len(gone) == 1, self.fleet.views[gone[0]].spec.kind.partitions_word
            said.append(
                f"{_format_workers(gone)} {'is' if one else 'are'} no longer in it: "
                f"{'its' if one else 'their'} {word} move elsewhere"
            )
        said += [_describe_worker(event.inventory.workers[w]) for w in changed[:NAMED]]
        if said:
            self.news.add_line(f"Inventory read: {'; '.join(said)}.")

    # ---- leaving ----

    def advance_departures(self, now: float) -> Iterator[Effect]:
        """Fence removed workers that have no partition left; forget those that are fenced and
        gone."""
        yield from self._fence_strangers(now)
        for worker in sorted(self.fleet.leaving):
            view = self.fleet.views[worker]
            if view.fencing or now < view.retry_at:
                continue
            if self.fleet.statuses[worker].lease_live:
                # Fence it only when it has nothing left, so that its lanes were handed over; or at
                # once if it restarted, since the lease's boot is dead then, or if its whole kind
                # leaves, since nobody takes over then.
                other_boot = view.present and not self.fleet.statuses[worker].holds_lease
                if other_boot or not (
                    (self._has_successors(view.spec.kind) and self.fleet.owned_by(worker))
                    or self._has_write_under_way(worker)
                ):
                    self.fleet.begin_fence(worker, self.fleet.leases[worker].boot)
                    yield make_lease(self.fleet, worker, "")
            elif (
                view.present
                and view.boot in view.dead
                and now < self._until.setdefault(worker, now + GOODBYE_S)
            ):
                pass  # it is told that it is fenced (say_fenced), and ends
            else:
                yield from self._forget_worker(worker, now)

    def _has_successors(self, kind: WorkerKind) -> bool:
        """Whether a worker of this kind stays."""
        return any(
            w.worker not in self.fleet.leaving for w in self.fleet.inventory.workers_of(kind)
        )

    def _has_write_under_way(self, worker: str) -> bool:
        """Whether a write of one of its partitions is under way: a `place` or a `released`."""
        return any(self.fleet.partitions[p].worker == worker for p in self.fleet.writing)

    def _forget_worker(self, worker: str, now: float) -> Iterator[Effect]:
        self._until.pop(worker, None)
        self.fleet.forget_worker(worker)
        self.placing.forget_worker(worker)
        self.placing.rebuild_frame()
        self.news.troubles.clear(TroubleKind.LEASE_REFUSED, worker, now)
        self.news.add_line(f"{short_name(worker)} has left the fleet.")
        self.news.add_alert(
            Severity.INFO, "worker_left", worker, f"{short_name(worker)} has left the fleet"
        )
        # Otherwise the next worker of that name would begin drained.
        if drain_intent(worker) in self.fleet.intents:
            yield Write(intents={drain_intent(worker): None})

    def _fence_strangers(self, now: float) -> Iterator[Effect]:
        for worker in [w for w, due_s in self.strangers.items() if now >= due_s]:
            del self.strangers[worker]
            yield make_lease(self.fleet, worker, "")


def _format_workers(workers: list[str]) -> str:
    more = f" and {len(workers) - NAMED} more" if len(workers) > NAMED else ""
    return ", ".join(short_name(w) for w in workers[:NAMED]) + more


def _describe_worker(spec: WorkerSpec) -> str:
    return f"{spec.label} is at {spec.site} with {spec.capacity_eps:,.0f} events/s"
