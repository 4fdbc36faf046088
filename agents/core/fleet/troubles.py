"""Troubles: whatever is wrong until it is mended. This is the one list that `status`, the room's
subject, the feeds `fleet` and `alerts`, the metrics and the live views show.

The code that knows the fact calls `set` when it begins (repeated calls are harmless) and `clear`
when it is over. News reports each once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agents.base.text import to_one_line
from agents.core.model.feeds import Severity, TroubleRow, TroubleRows
from agents.core.model.times import format_took

PER_KIND = 50
"""Troubles of one kind; further ones are listed as soon as there is room."""
TEXT_AT_MOST = 400
ROWS_AT_MOST = 10  # in one item of the feed `fleet`
REMIND_S, REMIND_ACKNOWLEDGED_S = 900.0, 3600.0
"""A trouble that lasts is told once more this long after it began, or after it was acknowledged."""


class TroubleKind(StrEnum):
    """The kinds of trouble, the gravest first; each is a label of the metric."""

    KAFKA_AWAY = "kafka_away"
    PLACEMENT_REFUSED = "placement_refused"
    OFFSET_LOST = "offset_lost"
    OFFSET_WENT_BACK = "offset_went_back"
    TRANSACTION_UNDECIDED = "transaction_undecided"
    OPEN_TRANSACTION = "open_transaction"
    LANE_STOPPED = "lane_stopped"
    LEASE_REFUSED = "lease_refused"
    NO_ROUTER = "no_router"
    PLAN_FAILED = "plan_failed"
    OVER_CAPACITY = "over_capacity"
    ROUTER_ENGINE = "router_engine"
    CRASH_LOOP = "crash_loop"
    CIRCLES = "circles"
    UNTRUE_ANSWER = "untrue_answer"
    TOPIC_CHANGED = "topic_changed"
    NO_GEO = "no_geo"
    NO_ANALYTICS = "no_analytics"
    NO_TRAFFIC = "no_traffic"
    WORKER_HELD = "worker_held"
    WORKER_UNREADY = "worker_unready"
    LANE_HELD_UP = "lane_held_up"
    PATH_DOUBTED = "path_doubted"
    RACK_UNKNOWN = "rack_unknown"
    CLOCK_OFF = "clock_off"
    JOURNAL_FAILED = "journal_failed"


_ORDER = {kind: i for i, kind in enumerate(TroubleKind)}
_GRAVITY = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.INFO: 2, Severity.CALM: 3}


@dataclass(frozen=True, slots=True)
class Trouble:
    """`about`: a worker, a partition's key, or empty. `text`: what is wrong, where, and which
    command mends it. `since_s`: monotonic. `at_work`: who has acknowledged it (a name), if anybody.
    `remind_s`: when it is told once more (monotonic); infinite once it was."""

    kind: TroubleKind
    about: str
    text: str
    severity: Severity
    since_s: float
    at_work: str = ""
    remind_s: float = math.inf

    @property
    def id(self) -> str:
        """Four characters, the same under every leader."""
        name = f"{self.kind}/{self.about}".encode()
        return hashlib.blake2s(name, digest_size=2).hexdigest()


@dataclass(frozen=True, slots=True)
class TroubleChange:
    """A change to report: `trouble` has begun, or, with `ended` for people, it is over."""

    trouble: Trouble
    ended: str = ""


@dataclass(slots=True)
class Troubles:
    """`changes`: not reported yet; News reports and removes them."""

    changes: list[TroubleChange] = field(default_factory=list)
    _standing: dict[tuple[TroubleKind, str], Trouble] = field(default_factory=dict)
    _ending: dict[tuple[TroubleKind, str], tuple[float, str]] = field(default_factory=dict)

    def set(
        self,
        kind: TroubleKind,
        about: str,
        text: str,
        now: float,
        severity: Severity = Severity.CRITICAL,
    ) -> None:
        """This trouble is there. If it was there before, only its text and severity change, and
        nothing is reported."""
        key, text = (kind, about), to_one_line(text, TEXT_AT_MOST)
        self._ending.pop(key, None)
        before = self._standing.get(key)
        if before is not None:
            self._standing[key] = replace(before, text=text, severity=severity)
        elif sum(k is kind for k, _ in self._standing) < PER_KIND:
            self._standing[key] = Trouble(kind, about, text, severity, now, remind_s=now + REMIND_S)
            self.changes.append(TroubleChange(self._standing[key]))

    def clear(
        self, kind: TroubleKind, about: str, now: float, ended: str = "", *, holds_s: float = 0.0
    ) -> None:
        """This trouble is over; nothing happens if it was not there. `ended`: the text that says
        so. With `holds_s` it ends only if it is not set again for that long, so that a trouble that
        comes and goes is reported once."""
        if (kind, about) in self._standing:
            self._ending.setdefault(
                (kind, about), (now + holds_s, to_one_line(ended, TEXT_AT_MOST))
            )
            self.expire(now)

    def set_exactly(
        self,
        kind: TroubleKind,
        texts: Mapping[str, str],
        now: float,
        severity: Severity = Severity.CRITICAL,
    ) -> None:
        """Of this kind exactly these are there (`texts`: text by `about`): for a check that sees
        all of them at once."""
        for key in [k for k in self._standing if k[0] is kind and k[1] not in texts]:
            self.clear(*key, now)
        for about, text in texts.items():
            self.set(kind, about, text, now, severity)

    def expire(self, now: float) -> None:
        """End the troubles that were cleared and not set again for long enough."""
        for key in [k for k, (until_s, _) in self._ending.items() if now >= until_s]:
            _, ended = self._ending.pop(key)
            trouble = self._standing.pop(key)
            self.changes.append(
                TroubleChange(
                    trouble,
                    ended or f"over after {format_took(now - trouble.since_s)}: {trouble.text}",
                )
            )

    def acknowledge(self, id: str, who: str, now: float) -> list[Trouble]:
        """Somebody is at work on it: it is told once more an hour from now if it lasts. None if it
        is not there, or if `who` has acknowledged it before."""
        found = [
            replace(t, at_work=who, remind_s=now + REMIND_ACKNOWLEDGED_S)
            for t in self._standing.values()
            if t.id == id and t.at_work != who
        ]
        self._standing |= {(t.kind, t.about): t for t in found}
        return found

    def take_reminders(self, now: float) -> list[Trouble]:
        """The troubles that are to be told once more now; each is returned once."""
        due = [t for t in self._standing.values() if now >= t.remind_s]
        self._standing |= {(t.kind, t.about): replace(t, remind_s=math.inf) for t in due}
        return due

    def is_set(self, kind: TroubleKind, about: str) -> bool:
        return (kind, about) in self._standing

    def list_worst_first(self) -> list[Trouble]:
        """All of them, the worst first, then the oldest."""
        return sorted(
            self._standing.values(),
            key=lambda t: (_GRAVITY[t.severity], _ORDER[t.kind], t.since_s, t.about),
        )

    def count_by_kind(self) -> Mapping[TroubleKind, int]:
        """How many there are of every kind."""
        return {kind: sum(k is kind for k, _ in self._standing) for kind in TroubleKind}

    def worst_rows(self, now: float) -> TroubleRows:
        """For the feed `fleet`: the worst ROWS_AT_MOST, and how many there are in all."""
        standing = self.list_worst_first()
        return TroubleRows(
            len(standing),
            tuple(
                TroubleRow(
                    t.kind.value, t.about, t.severity, round(max(0.0, now - t.since_s), 1), t.text
                )
                for t in standing[:ROWS_AT_MOST]
            ),
        )
