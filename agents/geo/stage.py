"""A geo worker's stage: it sends every event of events.unplaced to exactly one of events.raw, with
the coordinates of its place, and the dead letters.

An event whose place cannot be asked for now waits, with all behind it, in Kafka. It waits for at
most `wait_s`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, Protocol

import msgspec

from agents.core.lanes.records import (
    DIED,
    OURS,
    PLACED,
    RAW_KEY,
    REPLAYS,
    SRC,
    UNPLACED_AT,
    Event,
    Reason,
    Rejected,
    Unread,
    find_bad_header,
    parse_event,
    parse_source,
)
from agents.core.model.places import Place
from agents.core.model.times import format_duration
from agents.core.model.topology import MAIN
from agents.geo.lookups import Found
from agents.kafka.broker_clock import read_own_clock_ms
from agents.worker.stage import Inputs, Outbox, Tally, Topics, sample_records

GIVES_UP_AFTER_S = 600.0
"""A process gives no event up before it has run for this time: after a long stop, all that waits
is old."""
_KEPT = frozenset({REPLAYS, DIED})
_DECIMALS = 6  # of a degree: 0.1 m
_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])

Read = tuple[Any, Event | Rejected]
"""A record (Any: aiokafka has no types), and what it is."""


def fill_origin(value: bytes, place: Place) -> bytes:
    """The event `value`, whose `origin` has no coordinates, with those of `place`, and with a
    member `geo` of `origin` that says whose they are and what they mean. All other members keep
    their bytes.

    Raises msgspec.DecodeError, RecursionError if the JSON cannot be read."""
    event = _decoder.decode(value)
    origin = _decoder.decode(event["origin"])
    found: dict[str, object] = {
        "name": place.name,
        "precision": place.precision.value,
        "provider": place.provider,
    }
    if place.others:
        found |= {"others": place.others, "why": place.why}
    filled = origin | {
        "lat": round(place.lat, _DECIMALS),
        "lon": round(place.lon, _DECIMALS),
        "geo": found,
    }
    return msgspec.json.encode(event | {"origin": filled})


class PlaceFinder(Protocol):
    """What the stage needs of the lookups (agents/geo/lookups.py)."""

    def find_places(self, texts: Sequence[str], firsts: int) -> Found: ...


class GeoStage:
    """`raw_partitions`: how many events.raw has. `max_bytes`, `future_limit_ms`: as a router's.
    `wait_s`: how long an event may wait, from its append on, by the clock `now_ms` (epoch ms),
    which is the brokers' as soon as an engine has set it."""

    def __init__(
        self,
        finder: PlaceFinder,
        raw_partitions: int,
        max_bytes: int,
        future_limit_ms: int,
        wait_s: float,
        topics: Topics | None = None,
    ) -> None:
        self._topics = topics or Topics()
        self.topic, self.group = f"{MAIN}/{self._topics.unplaced}", self._topics.geo_group
        self.outputs = self._topics.raw, self._topics.dead
        self._finder = finder
        self._raw_partitions = raw_partitions
        self._max_bytes, self._future_limit_ms = max_bytes, future_limit_ms
        self._wait_s = wait_s
        self._gives_up_from = time.monotonic() + GIVES_UP_AFTER_S
        self.now_ms: Callable[[], float] = read_own_clock_ms

    code, pids, lost = "", (), 0

    def forget_partition(self, n: int) -> None:
        """Nothing to do: nothing is remembered of partitions."""

    def process_batch(self, got: Mapping[int, Inputs], out: Outbox) -> list[tuple[int, Tally]]:
        read = {n: [(r, self._read_event(r)) for r in records] for n, records in got.items()}
        # The first of each partition come first: without them, nothing of it goes on.
        turns = zip_longest(*(map(_place_of, events) for events in read.values()))
        firsts = {_place_of(events[0]) for events in read.values()} - {""}
        texts = list(filter(None, dict.fromkeys(chain(*turns))))
        found = self._finder.find_places(texts, len(firsts))
        return [(n, self._place_events(n, events, found, out)) for n, events in read.items()]

    def _place_events(self, n: int, events: Sequence[Read], found: Found, out: Outbox) -> Tally:
        tally, out.of = Tally(raw_ms=[r.timestamp for r, _ in sample_records(events)]), n
        given_up = self._give_up_before_ms()
        for r, event in events:
            place, flaw = None, event if isinstance(event, Rejected) else None
            if isinstance(event, Event) and event.place:
                answer = found.answers.get(event.place)
                if r.timestamp < given_up and (why := found.refused.get(event.place)):
                    wait = format_duration(self._wait_s)
                    answer = f"it could not be looked up within {wait}: {why}"
                if answer is None:
                    tally.upto, tally.waits = r.offset, self._describe_wait(found)
                    break
                if isinstance(answer, str):
                    flaw = Rejected(Reason.UNKNOWN_PLACE, f"{event.place[:60]!r}: {answer}")
                else:
                    place = answer
            flaw = flaw or self._send_back(n, r, place, out)
            if flaw is None:
                tally.out += 1
            else:
                self._add_dead_letter(n, r, flaw, out)
                tally.dead += 1
        return tally

    def _add_dead_letter(self, n: int, r: Any, flaw: Rejected, out: Outbox) -> None:
        src, *others = self._headers(n, r)
        at = (UNPLACED_AT, f"{n}/{r.offset}".encode())
        headers = [src, at, *(h for h in others if h[0] not in (RAW_KEY, PLACED, UNPLACED_AT))]
        out.add_dead_letter(
            _raw_key(r), r.value, headers, flaw.reason, flaw.detail, self._topics.dead
        )

    def _read_event(self, r: Any) -> Event | Rejected:
        """Any program may write to events.unplaced: what is there is checked as a router does."""
        return (find_bad_header(r.headers) if r.headers else None) or parse_event(
            r.value, r.timestamp, self._max_bytes, self._future_limit_ms
        )

    def _give_up_before_ms(self) -> float:
        """What was appended before this time and is not answered now is given up."""
        begun = time.monotonic() >= self._gives_up_from
        return self.now_ms() - self._wait_s * 1000 if begun else 0.0

    def _describe_wait(self, found: Found) -> str:
        why = found.waits or "the provider is slow"
        return (
            f"places cannot be looked up now: {why}; the events wait, for up to "
            f"{format_duration(self._wait_s)} each, then become dead letters. geolane doctor "
            "checks the provider"
        )

    def _send_back(self, n: int, r: Any, place: Place | None, out: Outbox) -> Rejected | None:
        """Send the event to events.raw, to the partition that it came from; without `place` it has
        coordinates of its own. Returns why that cannot be done."""
        value, raw = r.value, self._topics.raw
        known = self._headers(n, r)
        headers = [h for h in known if h[0] not in OURS or h[0] in _KEPT or h[0] == SRC]
        if place is not None:
            try:
                value = fill_origin(value, place)
            except (msgspec.DecodeError, RecursionError) as e:
                return Rejected(Reason.NOT_JSON, str(e)[:200])
            told = f"{place.provider} {place.precision.value}"
            headers.insert(1, (PLACED, told.encode("ascii", "replace")))
        key = _raw_key(r)
        if out.has_limit(raw) and (why := out.explain_refusal(raw, key, value, headers)):
            return Rejected(Reason.TOO_LARGE, why)
        src = next((v or b"" for name, v in headers if name == SRC), b"")
        out.add_record(raw, self._choose_partition(src), key, value, headers)
        return None

    def _choose_partition(self, src: bytes) -> int:
        topic, _, n = src.rpartition(b"/")[0].rpartition(b"/")
        return int(n) % self._raw_partitions if topic == self._topics.raw.encode() else 0

    def _headers(self, n: int, r: Any) -> list[tuple[str, bytes | None]]:
        """The headers of a record of partition `n`. The first is its source: the one that it has,
        or else where it is."""
        own = next(
            (x for name, content in r.headers if name == SRC and (x := parse_source(content))), ""
        )
        src = own or f"{self._topics.unplaced}/{n}/{r.offset}"
        theirs = [h for h in r.headers if h[0] != SRC and type(h[0]) is not Unread]
        return [(SRC, src.encode()), *theirs]


def _place_of(read: Read) -> str:
    """The place to look up; empty if there is none."""
    event = read[1]
    return event.place if isinstance(event, Event) else ""


def _raw_key(r: Any) -> bytes | None:
    """The key that the event had in events.raw, as far as it is known."""
    own: bytes | None = r.key
    return next((v for name, v in reversed(r.headers) if name == RAW_KEY and v is not None), own)
