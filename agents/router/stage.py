"""A router's stage: it sends every raw record to exactly one of its lane, the unplaced and the dead
letters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from agents.core.lanes.lane_map import LaneMap, murmur2
from agents.core.lanes.records import (
    CELL,
    DIED,
    MAP,
    OURS,
    PLACED,
    RAW_KEY,
    RAW_MS,
    REPLAYS,
    SRC,
    TS,
    Headers,
    Reason,
    Rejected,
    Unread,
    find_bad_header,
    is_placed_header,
    parse_event,
    parse_number,
    parse_source,
)
from agents.core.model.topology import MAIN
from agents.kafka.batches import NewRecord
from agents.worker.stage import Inputs, Outbox, Tally, Topics, record_size, sample_records

_DROPPED = OURS - {REPLAYS, DIED, PLACED}
_HEADERS_BYTES = 256
Header = tuple[str, bytes | None]
_NO_HEADERS: tuple[Header, ...] = ()
_MOST_REPLAYS = 999_999


class RouterStage:
    """`max_bytes`: the size limit of an event. `future_limit_ms`: how far its time may be ahead of
    its append. `unplaced_partitions`: how many events.unplaced has."""

    def __init__(
        self,
        lanemap: LaneMap,
        max_bytes: int,
        future_limit_ms: int,
        topics: Topics | None = None,
        unplaced_partitions: int = 1,
    ) -> None:
        self._topics = topics or Topics()
        self.topic, self.group = f"{MAIN}/{self._topics.raw}", self._topics.router_group
        self.outputs = self._topics.lanes, self._topics.unplaced, self._topics.dead
        self._map = lanemap
        self._max_bytes = max_bytes
        self._future_limit_ms = future_limit_ms
        self._unplaced_partitions = unplaced_partitions
        self._version = str(lanemap.version).encode()

    code, pids, lost = "", (), 0

    def forget_partition(self, n: int) -> None:
        """Nothing to do: a router remembers nothing of partitions."""

    def process_batch(self, got: Mapping[int, Inputs], out: Outbox) -> list[tuple[int, Tally]]:
        return [(n, self._sort_records(n, records, out)) for n, records in got.items()]

    def _sort_records(self, n: int, records: Inputs, out: Outbox) -> Tally:
        tally, out.of = Tally(raw_ms=[r.timestamp for r in sample_records(records)]), n
        max_bytes, future_limit_ms = self._max_bytes, self._future_limit_ms
        most_bytes = max_bytes + _HEADERS_BYTES
        lanes, unplaced, place = self._topics.lanes, self._topics.unplaced, self._map.locate_event
        prefix, version = f"{self._topics.raw}/{n}/".encode(), (MAP, self._version)
        limited = out.has_limit(lanes) or out.has_limit(unplaced)
        found: defaultdict[tuple[str, int], list[NewRecord]] = defaultdict(list)
        raw_ms, appended = 0, (RAW_MS, b"0")
        for r in records:
            key, value = r.key, r.value
            if r.timestamp != raw_ms:  # many have the time of their append in common
                raw_ms = r.timestamp
                appended = (RAW_MS, b"%d" % raw_ms)
            src: Header = (SRC, b"%b%d" % (prefix, r.offset))
            theirs, flaw = _NO_HEADERS, None
            if r.headers:
                flaw = find_bad_header(r.headers)
                src, theirs = _source_and_kept_headers(r, src)
            event = flaw or parse_event(value, raw_ms, max_bytes, future_limit_ms)
            # `parse_event` limits the value alone; key and headers count, too.
            if not isinstance(event, Rejected) and (key or theirs):
                size = record_size(key, value, theirs)
                if size > most_bytes:
                    why = f"{size} bytes with its key and headers, the limit is {max_bytes}"
                    event = Rejected(Reason.TOO_LARGE, why)
            if not isinstance(event, Rejected):
                if event.lat is None or event.lon is None:
                    to, lane_key = unplaced, event.id.encode()
                    count = self._unplaced_partitions
                    lane = murmur2(lane_key) % count if count > 1 else 0
                    headers = [src, appended, (TS, b"%d" % event.ts_ms), *theirs]
                    if key is not None and key != lane_key:
                        headers.append((RAW_KEY, key))
                else:
                    to, lane_key = lanes, event.id.encode() if key is None else key
                    cell, lane = place(event.lat, event.lon, lane_key)
                    headers = [src, appended, (CELL, cell), (TS, b"%d" % event.ts_ms), version]
                    if theirs:
                        headers += theirs
                # Only if a topic is known to take less than we send.
                if not limited or not (why := out.explain_refusal(to, lane_key, value, headers)):
                    found[to, lane].append((lane_key, value, headers))
                    continue
                event = Rejected(Reason.TOO_LARGE, why)
            self._add_dead_letter(r, [src, appended, *theirs], event, out)
            tally.dead += 1
        for (to, lane), some in found.items():
            out.add_records(to, lane, some)
            tally.out += len(some)
            if to is lanes:
                tally.arrivals[lane] = len(some)
        return tally

    def _add_dead_letter(self, r: Any, headers: Headers, why: Rejected, out: Outbox) -> None:
        out.add_dead_letter(r.key, r.value, headers, why.reason, why.detail, self._topics.dead)


def _source_and_kept_headers(r: Any, src: Header) -> tuple[Header, tuple[Header, ...]]:
    """The record's source, which a replayed record keeps (PROTOCOL 1; else `src`), and the headers
    to keep:
    those that are not ours, the history of a dead letter, and who placed it.

    A header with one of our names but without its form is dropped: any program may write any
    header."""
    own = next(
        (x for name, content in r.headers if name == SRC and (x := parse_source(content))), ""
    )
    theirs = tuple(h for h in r.headers if h[0] not in _DROPPED and _is_header_kept(*h))
    return (SRC, own.encode()) if own else src, theirs


def _is_header_kept(name: str, content: bytes | None) -> bool:
    if name == REPLAYS:
        return 0 < parse_number(content, 0) <= _MOST_REPLAYS
    if name == PLACED:
        return is_placed_header(content)
    return type(name) is not Unread and (name != DIED or content is not None)
