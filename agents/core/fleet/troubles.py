"""What is wrong and stays wrong until something or somebody mends it: the one list that `status`,
the room's subject, the feeds `fleet` and `alerts`, the metrics and the live views show.

Whoever knows the fact calls `set` when it begins (again and again is harmless) and `clear` when it
is over; both are told once, by News."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agents.base.text import one_line
from agents.core.model.feeds import Severity, TroubleRow, TroubleRows

PER_KIND = 50
"""Of one kind; what is beyond is told as soon as there is room."""
TEXT_AT_MOST = 400
ROWS_AT_MOST = 10  # in one item of the feed `fleet`


class TroubleKind(StrEnum):
    """What kinds there are, the gravest first; each is a label of the metric."""

    KAFKA_AWAY = "kafka_away"
    PLACEMENT_REFUSED = "placement_refused"
    OFFSET_LOST = "offset_lost"
    OFFSET_WENT_BACK = "offset_went_back"
    TRANSACTION_UNDECIDED = "transaction_undecided"
    OPEN_TRANSACTION = "open_transaction"
    LANE_STOPPED = "lane_stopped"
    NO_ROUTER = "no_router"
    PLAN_FAILED = "plan_failed"
    OVER_CAPACITY = "over_capacity"
    CRASH_LOOP = "crash_loop"
    CIRCLES = "circles"
    UNTRUE_ANSWER = "untrue_answer"
    TOPIC_CHANGED = "topic_changed"
    WORKER_HELD = "worker_held"
    LANE_HELD_UP = "lane_held_up"


_ORDER = {kind: i for i, kind in enumerate(TroubleKind)}
_GRAVITY = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.INFO: 2, Severity.CALM: 3}


@dataclass(frozen=True, slots=True)
class Trouble:
    """`about`: a worker, a partition's key, or empty. `text`: what is wrong, where, and the command
    that mends it. `since_s`: monotonic."""

    kind: TroubleKind
    about: str
    text: str
    severity: Severity
    since_s: float


@dataclass(frozen=True, slots=True)
class TroubleChange:
    """To be told: `trouble` stands, or (`ended`, in words) does not any more."""

    trouble: Trouble
    ended: str = ""


@dataclass(slots=True)
class Troubles:
    """`changes`: what is to be told; whoever tells it takes it out."""

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
        """It stands. Of one that stood before the text is renewed, and nothing is told."""
        key, text = (kind, about), one_line(text, TEXT_AT_MOST)
        self._ending.pop(key, None)
        before = self._standing.get(key)
        if before is not None:
            self._standing[key] = replace(before, text=text, severity=severity)
        elif sum(k is kind for k, _ in self._standing) < PER_KIND:
            self._standing[key] = Trouble(kind, about, text, severity, now)
            self.changes.append(TroubleChange(self._standing[key]))

    def clear(
        self, kind: TroubleKind, about: str, now: float, ended: str = "", *, holds_s: float = 0.0
    ) -> None:
        """It is over; nothing follows where it did not stand. `ended` says so in words. With
        `holds_s` it is over once it was not set again for so long: what comes and goes is told
        once."""
        if (kind, about) in self._standing:
            self._ending.setdefault((kind, about), (now + holds_s, one_line(ended, TEXT_AT_MOST)))
            self.expire(now)

    def only(
        self,
        kind: TroubleKind,
        texts: Mapping[str, str],
        now: float,
        severity: Severity = Severity.CRITICAL,
    ) -> None:
        """Of this kind exactly these stand (text by what it is about): for whoever looks at all of
        them at once."""
        for key in [k for k in self._standing if k[0] is kind and k[1] not in texts]:
            self.clear(*key, now)
        for about, text in texts.items():
            self.set(kind, about, text, now, severity)

    def expire(self, now: float) -> None:
        """Ends what was cleared and has held."""
        for key in [k for k, (until_s, _) in self._ending.items() if now >= until_s]:
            _, ended = self._ending.pop(key)
            trouble = self._standing.pop(key)
            self.changes.append(
                TroubleChange(
                    trouble, ended or f"over after {now - trouble.since_s:.0f} s: {trouble.text}"
                )
            )

    def stands(self, kind: TroubleKind, about: str) -> bool:
        return (kind, about) in self._standing

    def standing(self) -> list[Trouble]:
        """All of them, the worst first, then the oldest."""
        return sorted(
            self._standing.values(),
            key=lambda t: (_GRAVITY[t.severity], _ORDER[t.kind], t.since_s, t.about),
        )

    def count(self) -> Mapping[TroubleKind, int]:
        """How many stand, of every kind."""
        return {kind: sum(k is kind for k, _ in self._standing) for kind in TroubleKind}

    def rows(self, now: float) -> TroubleRows:
        """For the feed `fleet`: the worst, and how many there are in all."""
        standing = self.standing()
        return TroubleRows(
            len(standing),
            tuple(
                TroubleRow(
                    t.kind.value, t.about, t.severity, round(max(0.0, now - t.since_s), 1), t.text
                )
                for t in standing[:ROWS_AT_MOST]
            ),
        )
