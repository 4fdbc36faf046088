"""A lease is a producer id and epoch made by InitProducerId; making a new one fences the process
that holds the old one (PROTOCOL 2.1, 2.2).

Only the coordinator makes leases. A worker can only be given one."""

from __future__ import annotations

from collections.abc import Callable

import aiokafka.errors as kafka_errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.transaction import InitProducerIdRequest

from agents import settings
from agents.base import log
from agents.base.errors import TransactionUndecided
from agents.kafka.connection import BOUND_S, Link, describe_error, lacks_right, raise_for_code
from agents.kafka.markers import OFFSETS, Markers, Newest, Open, Reach

_log = log.get_logger("kafka.leases")


class LeaseMaker:
    """Makes leases for any transactional id, over one connection per broker.

    `timeout_ms`: how long the broker lets a transaction of such a lease stay open. `reach`: where
    the transactions of an id may write. There LeaseMaker writes the markers that a killed broker
    has forgotten (markers.py)."""

    def __init__(
        self, kafka: settings.Kafka, timeout_ms: int, reach: Callable[[str], Reach] | None = None
    ) -> None:
        self._link = Link(kafka, "geolane-leases")
        self._timeout_ms = timeout_ms
        self._reach = reach
        self._markers = Markers(self._link)
        self._ended: dict[
            str, Newest
        ] = {}  # by transactional id: how its transaction had ended when it was fenced
        self._blind = False

    async def start(self, bound_s: float = BOUND_S) -> None:
        """Raises KafkaUnavailable if no broker answers within `bound_s`; it may then be called
        again."""
        await self._link.start(bound_s)

    async def stop(self) -> None:
        await self._link.stop()

    async def make_lease(self, transactional_id: str, bound_s: float = BOUND_S) -> tuple[int, int]:
        """Make a new lease: (producer_id, producer_epoch). It takes 1 ms, or 8 ms if the broker
        first has to abort an open transaction.

        When it returns, no process with an earlier lease of this id can send, commit or move an
        offset. A commit of theirs that was in flight is either complete or aborted, and readers see
        it so. Calls for different ids may run concurrently; a call may be repeated. Raises
        KafkaUnavailable (the fence may or may not have happened), TransactionUndecided (the fence
        has happened, and no process may go on from there) and KafkaError (no right to the id)."""

        async def attempt() -> tuple[int, int]:
            node = await self._link.find_coordinator(CoordinationType.TRANSACTION, transactional_id)
            # Read before the fence, which hides how the last transaction ended. Kept for the next
            # attempt, since the fence's answer may be lost.
            newest = (
                await self._markers.read_newest_transaction(node, transactional_id)
                if self._reach
                else None
            )
            if newest is not None and newest.committed is not None:
                self._ended[transactional_id] = newest
            request = InitProducerIdRequest(transactional_id, self._timeout_ms)
            response = await self._link.send_request(node, request, ConnectionGroup.COORDINATION)
            raise_for_code(response.error_code, transactional_id)
            lease = int(response.producer_id), int(response.producer_epoch)
            if newest is not None and self._reach is not None:
                if newest.committed is not None and lease != (newest.producer_id, newest.epoch + 1):
                    self._ended.pop(
                        transactional_id, None
                    )  # another transaction has ended since, or the producer id is new
                reach = self._reach(transactional_id)
                if not await self._ensure_earlier_decided(transactional_id, newest, lease, reach):
                    raise kafka_errors.ConcurrentTransactions(
                        transactional_id
                    )  # retry, to see that the markers are there now
            self._ended.pop(transactional_id, None)
            return lease

        return await self._link.retry_until_done(
            f"make a lease for {transactional_id}", attempt, bound_s
        )

    async def _ensure_earlier_decided(
        self, transactional_id: str, newest: Newest, lease: tuple[int, int], reach: Reach
    ) -> bool:
        """Whether all transactions before this lease are decided. If one is not, write its markers
        now and return False. Raises TransactionUndecided if its outcome is not known."""
        ended = self._ended.get(transactional_id)
        try:
            places = await self._markers.find_open_transactions(newest.producer_id, reach)
        except kafka_errors.KafkaError as e:
            if not lacks_right(e):
                raise
            # Without the right nothing can be seen. That is logged once, and does not stop us.
            if not self._blind:
                _log.warning("undecided_transactions_not_seen", error=describe_error(e))
            self._blind = True
            return True
        if not places:
            return True
        # Another producer id's markers would decide nothing (markers.py).
        if ended is None or ended.committed is None or ended.producer_id != lease[0]:
            raise TransactionUndecided(_describe_undecided(transactional_id, places))
        try:
            groups = await self._markers.read_groups(places, reach)
            await self._markers.write_markers(
                transactional_id, lease, places, groups, ended.committed
            )
        except kafka_errors.KafkaError as e:
            if not lacks_right(e):
                raise
            raise TransactionUndecided(
                f"{_describe_undecided(transactional_id, places)} ({describe_error(e)})"
            ) from e
        _log.warning(
            "forgotten_markers_written",
            transactional_id=transactional_id,
            committed=ended.committed,
            places=len(places),
        )
        return False


def _describe_undecided(transactional_id: str, places: list[Open]) -> str:
    first = next((x for x in places if x.topic != OFFSETS), places[0])
    more = f" (and {len(places) - 3} more)" if len(places) > 3 else ""
    return (
        f"{transactional_id}: it cannot be known whether its last transaction was committed, and "
        f"its markers are missing at {', '.join(map(str, places[:3]))}{more}. Unless some of it "
        f"was read, end it at each: geolane abort-transaction {first}"
    )
