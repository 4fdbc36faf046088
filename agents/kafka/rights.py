"""The rights in Kafka that each kind of process needs, and no more; pure. They were found by
running everything on a broker that denies what is not allowed, and by removing rights until
something failed (tests/stack/test_existing_servers.py).

Only the worker itself and the coordinator, which makes its leases, have rights on a worker's
transactional id (PROTOCOL 2.1). Kafka has one right (Write on the id) for making a lease and for
using it. So a worker's code, not its rights, keeps it from making leases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agents.core.model.topology import (
    KINDS,
    TOPIC_CLEAN,
    TOPIC_DEAD,
    TOPIC_GEO_CONTEXT,
    TOPIC_HOTSPOT_STATE,
    TOPIC_HOTSPOTS,
    TOPIC_LANEMAP,
    TOPIC_LANES,
    TOPIC_PLACEMENT,
    TOPIC_RAW,
    TOPIC_REPLAYED,
    TOPIC_RISES,
    TOPIC_UNPLACED,
    TOPICS_OF_ANALYTICS,
    WorkerKind,
    kind_from_account,
)
from agents.kafka.markers import OFFSETS, Reach
from agents.kafka.wire import CLUSTER_NAME, Operation, Pattern, Resource

COORDINATOR = "geolane"
REPLAYER = "geolane-dead-replay"
CLIENT = "client"
"""The account that `geolane up` makes for its user's own producers and consumers."""
FLINK_JOB = "geolane-hotspots"
"""The name of the Flink job that finds hotspots; those of its transactions begin with it."""
R, W, C = Operation.READ, Operation.WRITE, Operation.DESCRIBE_CONFIGS


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """`user` may do `operation` on the resource `name` or, if PREFIXED, on all resources whose
    names begin with it. Read and Write imply Describe."""

    user: str
    resource: Resource
    name: str
    operation: Operation
    pattern: Pattern = Pattern.LITERAL

    def __str__(self) -> str:
        star = "*" if self.pattern is Pattern.PREFIXED else ""
        return (
            f"{_to_camel_case(self.operation)} on {_to_camel_case(self.resource)} {self.name}{star}"
        )


_TOPICS: dict[WorkerKind, dict[str, tuple[Operation, ...]]] = {
    WorkerKind.NODE: {TOPIC_LANES: (R,), TOPIC_CLEAN: (W,), TOPIC_DEAD: (W,)},
    WorkerKind.ROUTER: {
        TOPIC_RAW: (R,),
        TOPIC_LANEMAP: (R,),
        TOPIC_LANES: (W, C),
        TOPIC_UNPLACED: (W, C),
        TOPIC_DEAD: (W, C),
    },
    WorkerKind.ANALYTICS: {
        TOPIC_LANES: (R,),
        TOPIC_HOTSPOTS: (R, W),
        TOPIC_RISES: (R, W),
        TOPIC_HOTSPOT_STATE: (R, W),
        TOPIC_GEO_CONTEXT: (R,),
    },
    WorkerKind.GEO: {
        TOPIC_UNPLACED: (R,),
        TOPIC_RAW: (W,),
        TOPIC_DEAD: (W,),
        TOPIC_GEO_CONTEXT: (W,),
    },
}


OUTPUTS = (
    *(TOPIC_CLEAN, TOPIC_DEAD, TOPIC_LANES, TOPIC_UNPLACED),
    *(*TOPICS_OF_ANALYTICS, TOPIC_GEO_CONTEXT),
)
"""The topics that workers write to, but events.raw."""


def reach_of_lease(transactional_id: str) -> Reach:
    """Where the transactions of a worker's lease may write, taken from its rights."""
    account = transactional_id.removeprefix("geolane-")
    found = list(rights_of(account))
    return Reach(
        tuple(x.name for x in found if x.resource is Resource.TOPIC and x.operation is W),
        tuple(x.name for x in found if x.resource is Resource.GROUP),
    )


def rights_of(account: str, user: str = "") -> Iterator[Right]:
    """The rights of the process with the XMPP account `account` (`geolane`, `node-iad-1`,
    `router-1`), given to the Kafka user `user` (empty: the one of the same name)."""
    user = user or account
    topics: dict[str, tuple[Operation, ...]]
    if account == COORDINATOR:
        # Read on __consumer_offsets, and Read and Write on what workers write: to find and write
        # the markers that a broker has forgotten (markers.py). Raw: dead letters are sent back to
        # it, and a reset sets its offsets.
        topics = dict.fromkeys((TOPIC_PLACEMENT, TOPIC_REPLAYED, TOPIC_RAW, *OUTPUTS), (R, W))
        topics |= {TOPIC_LANEMAP: (R,), OFFSETS: (R,)}
        # A rewind sets the offset of a lane, a reset sets the offset of any partition.
        groups = [kind.group for kind in KINDS]
        yield Right(user, Resource.TRANSACTIONAL_ID, REPLAYER, W)
        for kind in KINDS:
            yield Right(
                user, Resource.TRANSACTIONAL_ID, f"geolane-{kind.name}-", W, Pattern.PREFIXED
            )
        yield Right(user, Resource.TRANSACTIONAL_ID, "geolane-coordinator", W)
        yield Right(user, Resource.CLUSTER, CLUSTER_NAME, Operation.DESCRIBE_CONFIGS)
    else:
        if (of := kind_from_account(account)) is None:
            raise KeyError(account)
        topics, groups = _TOPICS[of], [of.group]
        yield Right(user, Resource.TRANSACTIONAL_ID, f"geolane-{account}", W)
        if of == WorkerKind.ANALYTICS:
            yield Right(user, Resource.TRANSACTIONAL_ID, FLINK_JOB, W, Pattern.PREFIXED)
    for topic, operations in topics.items():
        for operation in operations:
            yield Right(user, Resource.TOPIC, topic, operation)
    for group in groups:
        yield Right(user, Resource.GROUP, group, R)


def client_rights() -> Iterator[Right]:
    """The rights of CLIENT: write events, read all outputs, use groups and transactional ids that
    begin with `client-`."""
    yield Right(CLIENT, Resource.TOPIC, TOPIC_RAW, W)
    for topic in (TOPIC_CLEAN, TOPIC_DEAD, TOPIC_UNPLACED, TOPIC_HOTSPOTS, TOPIC_RISES):
        yield Right(CLIENT, Resource.TOPIC, topic, R)
    yield Right(CLIENT, Resource.GROUP, f"{CLIENT}-", R, Pattern.PREFIXED)
    yield Right(CLIENT, Resource.TRANSACTIONAL_ID, f"{CLIENT}-", W, Pattern.PREFIXED)


def rights_of_accounts(accounts: Iterable[str], user: str = "") -> list[Right]:
    """The rights of all these accounts, sorted and without duplicates."""
    return sorted({right for account in accounts for right in rights_of(account, user)})


def kafka_acls_arguments(right: Right) -> str:
    """The arguments of kafka-acls.sh that give this right."""
    resource = right.resource.name.lower().replace("_", "-")
    pattern = " --resource-pattern-type prefixed" if right.pattern is Pattern.PREFIXED else ""
    of = "" if right.resource is Resource.CLUSTER else f" '{right.name}'"
    allow = (
        f"--add --allow-principal 'User:{right.user}' --operation {_to_camel_case(right.operation)}"
    )
    return f"{allow} --{resource}{of}{pattern}"


def _to_camel_case(of: Operation | Resource) -> str:
    return of.name.title().replace("_", "")
