"""Reads the topic `geo.context` for analytics: the names that are in it, then whatever is added.
Without the topic, or without the right to read it, nothing has a name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

from agents import settings
from agents.base import log
from agents.core.geo.cell_names import CellNames
from agents.core.geo.context import decode_record
from agents.kafka.follow import Batch, TopicFollower

PAST_S = 86_400.0  # the topic keeps minutes
PAST_RECORDS = 20_000
ABSENT_S = 60.0

_log = log.get_logger("kafka.cell_names")


class CellNameReader:
    """Notes names in `names`. `look`: how it is looked for the topic. `topic`, `absent_s`:
    for tests."""

    def __init__(
        self,
        kafka: settings.Kafka,
        topic: str,
        names: CellNames,
        *,
        absent_s: float = ABSENT_S,
        look: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._topic, self._names = topic, names
        self._follower = TopicFollower(
            kafka,
            topic,
            past_s=PAST_S,
            past_records=PAST_RECORDS,
            absent_s=absent_s,
            look=look,
        )
        self._skipped = 0

    async def run(self) -> NoReturn:
        """Note names until cancelled."""
        await self._follower.run(self._take)

    def _take(self, batch: Batch) -> None:
        for r in batch.records:
            try:
                self._names.note(decode_record(r.key, r.value))
            except ValueError as e:
                if not self._skipped:
                    _log.warning(
                        "geo_record_skipped", topic=self._topic, offset=r.offset, why=str(e)
                    )
                self._skipped += 1
