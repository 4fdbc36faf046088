"""What the fleet knows, and what follows from it for each worker."""

from __future__ import annotations

import pytest

from agents.base.errors import ImpossibleTransition
from agents.core.model.messages import Announcement, Health
from agents.core.model.placement import Intent, drain_intent
from tests.core.world import World


def test_a_status_changes_with_the_fact_that_it_rests_on() -> None:
    w = World(nodes=2, lanes=4)
    w.fair(8)
    fleet, name = w.core.fleet, "node-1"
    boot = w.procs[name].boot
    assert fleet.statuses[name].takes

    fleet.apply_records({}, {}, {drain_intent(name): Intent("ana", 0)})
    assert fleet.statuses[name].drained
    assert fleet.statuses[name].to_empty
    fleet.apply_records({}, {}, {drain_intent(name): None})
    assert fleet.statuses[name].takes

    fleet.note_presence(Announcement(name, Health.XA, boot=boot), w.now_s)
    assert fleet.statuses[name].usable
    assert fleet.statuses[name].to_empty
    fleet.note_departure(name, w.now_s)
    assert not fleet.statuses[name].usable
    assert fleet.statuses[name].confirmed
    fleet.note_presence(Announcement(name, Health.AVAILABLE, boot=boot), w.now_s)
    assert fleet.statuses[name].takes

    fleet.begin_fence(name)
    assert not fleet.statuses[name].usable
    assert fleet.statuses[name].lease_live
    fleet.end_fence(name)
    assert fleet.statuses[name].takes
    fleet.note_presence(Announcement(name, Health.AVAILABLE, boot="another"), w.now_s)
    assert fleet.statuses[name].lease_live
    assert not fleet.statuses[name].holds_lease
    fleet.validate()


def test_a_fact_that_is_changed_behind_the_fleets_back_is_found() -> None:
    w = World(nodes=2, lanes=4)
    w.fair(8)
    w.core.fleet.views["node-1"].fencing = True
    with pytest.raises(ImpossibleTransition, match=r"out of date: \['node-1'\]"):
        w.core.fleet.validate()


def test_a_worker_that_is_not_in_the_fleet_may_have_nothing() -> None:
    status = World(nodes=1, lanes=1).core.fleet.statuses["node-9"]
    assert not (status.usable)
    assert not (status.takes)
    assert not (status.lease_live)
    assert not status.to_empty
