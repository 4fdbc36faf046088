"""Which source came out with which outcome: each (`geolane-src`, `geolane-part`) may be seen once,
in one of the outcomes (PROTOCOL 1).

Pure. Memory is bounded: one bit per raw offset, in blocks of 65,536. A block is dropped when it is
full; the oldest one is dropped when a partition has more than 64 open. Records that arrive for it
later count as `late` and are not checked for duplicates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

BLOCK = 1 << 16
OPEN_BLOCKS = 64
OPEN_PARTS = 100_000
MOST_PARTS = 10_000
"""Beyond this, the outputs of one record are not distinguished, nor the replays of one dead
letter."""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


@dataclass(slots=True)
class _Partition:
    """`first`: the lowest block that is still open; all blocks below it are closed."""

    first: int = 0
    blocks: dict[int, bytearray] = field(default_factory=dict)
    seen: Counter[int] = field(default_factory=Counter)


class Ledger:
    """`counts`: sources per outcome. A raw record that yields three records is one source, counted
    when all three have arrived."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.duplicates = 0
        self.late = 0
        self.strangers = 0
        self._partitions: dict[str, _Partition] = {}
        self._parts: dict[tuple[str, int], int] = {}
        self._base: dict[str, int] = {}

    @property
    def open_blocks(self) -> int:
        """How many blocks are kept, over all partitions."""
        return sum(len(p.blocks) for p in self._partitions.values())

    def begin_partition(self, partition: str, offset: int) -> None:
        """Count only sources of `partition` (`events.raw/3`) from this offset on."""
        self._base[partition] = offset
        self._partitions[partition] = _Partition(first=offset // BLOCK)

    def add_source(self, outcome: str, src: str, part: str = "") -> bool:
        """Note one record. Returns True if it is new; `strangers` counts records without a source
        of ours.

        The outputs of a dead letter's n-th replay have a source of their own:
        `events.raw/3#n/17`."""
        partition, _, number = src.rpartition("/")
        if "#" in partition and partition not in self._base:
            raw, _, again = partition.partition("#")
            if raw in self._base and _is_number(again) and int(again) <= MOST_PARTS:
                self.begin_partition(partition, 0)
        if partition not in self._base or not _is_number(number):
            self.strangers += 1
            return False
        offset = int(number)
        if offset < self._base[partition]:
            return False
        i, _, n = part.partition("/")
        if not (_is_number(i) and _is_number(n) and 1 < int(n) <= MOST_PARTS and int(i) <= int(n)):
            return self._complete_source(outcome, partition, offset)
        bit, whole = 1 << int(i), (1 << int(n)) - 1
        # Parts are numbered from 0 or from 1; both fill n bits.
        if int(i) == int(n):
            bit = 1
        if self._is_complete(partition, offset):
            self.duplicates += 1
            return False
        seen = self._parts.get((partition, offset), 0)
        if seen & bit:
            self.duplicates += 1
            return False
        if seen | bit != whole:
            self._parts[partition, offset] = seen | bit
            if len(self._parts) > OPEN_PARTS:
                del self._parts[next(iter(self._parts))]
            return True
        self._parts.pop((partition, offset), None)
        return self._complete_source(outcome, partition, offset)

    def _is_complete(self, partition: str, offset: int) -> bool:
        block = self._partitions[partition].blocks.get(offset // BLOCK)
        return block is not None and bool(block[(offset % BLOCK) >> 3] & (1 << (offset & 7)))

    def _complete_source(self, outcome: str, partition: str, offset: int) -> bool:
        p = self._partitions[partition]
        number, at = divmod(offset, BLOCK)
        if number < p.first:
            self.late += 1
            self.counts[outcome] += 1
            return True
        block = p.blocks.get(number)
        if block is None:
            if p.seen[number] == BLOCK:  # full, and dropped
                self.duplicates += 1
                return False
            block = p.blocks[number] = bytearray(BLOCK >> 3)
        if block[at >> 3] & (1 << (at & 7)):
            self.duplicates += 1
            return False
        block[at >> 3] |= 1 << (at & 7)
        p.seen[number] += 1
        self.counts[outcome] += 1
        if p.seen[number] == BLOCK:
            del p.blocks[number]
        if len(p.blocks) > OPEN_BLOCKS:
            oldest = min(p.blocks)
            del p.blocks[oldest]
            p.first = oldest + 1
            for n in [n for n in p.seen if n < p.first]:
                del p.seen[n]
        return True
