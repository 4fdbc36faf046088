"""The JSON of the topic `placement` is read back as it was written, and what is not ours is an
error that names the key."""

from __future__ import annotations

import json

import pytest

from agents.base.errors import KafkaError
from agents.core.model import placement
from agents.core.model.placement import Leader, Lease, Placed, State
from agents.core.model.topology import WorkerKind

PLACED = Placed(
    "node-iad-1", "BOOT", 7, 4, State.ASSIGNED, 104422, 1_790_000_000_000, "iad-1 is nearest"
)
LEASE = Lease("BOOT", "geolane-node-iad-1", 12, 3, 4)


def test_a_partitions_record_is_the_json_of_the_protocol() -> None:
    assert json.loads(placement.encode_placed(PLACED)) == {
        "worker": "node-iad-1",
        "boot": "BOOT",
        "epoch": 7,
        "leader_epoch": 4,
        "state": "assigned",
        "offset": 104422,
        "since_ms": 1_790_000_000_000,
        "why": "iad-1 is nearest",
    }


def test_all_three_are_read_back() -> None:
    assert placement.decode_placed(placement.encode_placed(PLACED)) == PLACED
    assert placement.decode_lease(placement.encode_lease(LEASE)) == LEASE
    assert placement.decode_leader(placement.encode_leader(Leader(4, "BOOT"))) == Leader(4, "BOOT")


def test_the_table_is_read_by_its_keys() -> None:
    table = {
        "leader": placement.encode_leader(Leader(4, "B")),
        placement.lease_key("node-iad-1"): placement.encode_lease(LEASE),
        WorkerKind.NODE.partition(12).key: placement.encode_placed(PLACED),
    }
    assert set(table) == {"leader", "main/lease/node-iad-1", "main/events.lanes/12"}
    written = placement.table_from_records(table)
    assert written == placement.PlacementTable(
        Leader(4, "B"), {"node-iad-1": LEASE}, {WorkerKind.NODE.partition(12): PLACED}
    )


def test_a_field_of_a_later_version_is_passed_over() -> None:
    assert placement.decode_leader(b'{"leader_epoch":4,"boot":"B","since":1}') == Leader(4, "B")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("leader", b"not json"),
        ("leader", b"\xff\xfe"),
        ("main/lease/node-iad-1", b'{"boot":"B"}'),
        (
            "main/events.lanes/12",
            b'{"worker":"w","boot":"b","epoch":1,"leader_epoch":1,"state":"lost"}',
        ),
        ("main/events.lanes/twelve", placement.encode_placed(PLACED)),
    ],
)
def test_what_is_not_ours_is_an_error_that_names_the_key(key: str, value: bytes) -> None:
    with pytest.raises(KafkaError, match=key):
        placement.table_from_records({key: value})


def test_where_nobody_knows_who_has_a_lane_nobody_has_any() -> None:
    p, q = WorkerKind.NODE.partition(0), WorkerKind.NODE.partition(1)
    written = placement.PlacementTable(Leader(4, "L"), {"node-iad-1": LEASE}, {p: PLACED})
    found = placement.assume_after_loss(written, [q.key, "somebody/else"])
    assert found.leases["node-iad-1"].fenced
    assert found.placed[p].state is State.ORPHAN
    assert found.placed[p].epoch == PLACED.epoch
    assert found.leader == written.leader


@pytest.mark.parametrize(
    "key", ["somebody/else", "main/tuning", "main/intent/pause", "\\xff", "main/other/1"]
)
def test_the_loss_of_other_keys_changes_nothing(key: str) -> None:
    written = placement.PlacementTable(
        Leader(4, "L"), {"node-iad-1": LEASE}, {WorkerKind.NODE.partition(0): PLACED}
    )
    assert placement.assume_after_loss(written, [key]) is written


def test_a_leader_that_lost_count_begins_beyond_all_that_was_seen() -> None:
    written = placement.PlacementTable(
        None, {"node-iad-1": LEASE}, {WorkerKind.NODE.partition(0): PLACED}
    )
    found = placement.assume_after_loss(written, ["leader"])
    assert found.leader is not None
    assert found.leader.leader_epoch > PLACED.leader_epoch + 1000
    assert (found.leases, found.placed) == (written.leases, written.placed)
