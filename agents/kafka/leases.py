"""A lease is a producer id and epoch made by InitProducerId; making it anew fences whoever held the old one (PROTOCOL
2.1, 2.2).

Only the coordinator imports this file: a worker has no way to a lease but being given one."""

from __future__ import annotations

import aiokafka.errors as kafka_errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.transaction import InitProducerIdRequest

from agents import settings
from agents.kafka.connection import BOUND_S, Link


class LeaseMaker:
    """InitProducerId for any transactional id, over one connection per broker. `timeout_ms` is the transaction
    time-out of the leases that it makes: how long the broker lets a transaction of theirs stay open."""

    def __init__(self, kafka: settings.Kafka, timeout_ms: int) -> None:
        self._link = Link(kafka, "geolane-leases")
        self._timeout_ms = timeout_ms

    async def start(self, bound_s: float = BOUND_S) -> None:
        """Raises KafkaUnavailable when no broker answers within the bound; it may be called again then."""
        await self._link.start(bound_s)

    async def stop(self) -> None:
        await self._link.stop()

    async def make(self, transactional_id: str, bound_s: float = BOUND_S) -> tuple[int, int]:
        """A new lease: (producer_id, producer_epoch). 1 ms idle; with a transaction open, that is aborted first (8 ms).

        When it returns, nobody with an earlier lease of this id can send, commit or move an offset, and a commit of
        theirs that was on its way counts whole or not at all. Calls for different ids may run at the same time;
        repeating a call is harmless. Raises KafkaUnavailable (the fence may or may not have happened) and KafkaError
        (no right to the id)."""

        async def attempt() -> tuple[int, int]:
            node = await self._link.coordinator(CoordinationType.TRANSACTION, transactional_id)
            request = InitProducerIdRequest(transactional_id, self._timeout_ms)
            response = await self._link.ask(node, request, ConnectionGroup.COORDINATION)
            error = kafka_errors.for_code(response.error_code)
            if error is not kafka_errors.NoError:
                raise error(transactional_id)
            return int(response.producer_id), int(response.producer_epoch)

        return await self._link.persist(f"make a lease for {transactional_id}", attempt, bound_s)
