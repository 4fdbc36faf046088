"""`tune`: settings that apply at once, to all workers or to the planner, until they are taken back.

The record `tuning` in `placement` is the truth. The feed of that name tells the workers, which
acknowledge its version in their telemetry. agents/settings/processes.py has the limits of each
value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from agents.core.effects import Effect, Reply, Say
from agents.core.fleet.fleet import Fleet, View
from agents.core.fleet.placing import Placing
from agents.core.model.feeds import CURRENT, TUNING, FeedItem, TuningValues
from agents.core.model.placement import Tuned, Tuning
from agents.settings.calm import Calm
from agents.settings.tunables import BELOW, DEFAULTS, TUNABLES, Number, Tunable, with_tuned_values

FIRST_S = 5.0  # before the first message, so that it mostly covers all workers
CORRECT_EVERY_S = 3.0
FOLLOWED_S = 600.0
NAMED = 4


@dataclass(slots=True)
class _Change:
    """A change whose progress the room is told. `words` begin the message; how many workers have
    the change follows."""

    words: str
    version: int
    since: float
    told_at: float = float("-inf")
    lacked: tuple[str, ...] = ()
    reply: Reply | None = None


@dataclass(slots=True)
class Tuner:
    """`base`: the coordinator's settings. `latest`: the record as last written, or about to be
    written."""

    fleet: Fleet
    placing: Placing
    base: Mapping[str, Number] = field(default_factory=lambda: DEFAULTS)
    latest: Tuning = field(init=False)
    _calm: Calm = field(init=False)
    _following: _Change | None = None

    def __post_init__(self) -> None:
        self.latest = self.fleet.tuning
        self._calm = self.placing.inputs.settings.calm
        self.apply_written()

    def apply_written(self) -> None:
        """Apply the written values to the planner. Values that this version does not allow are
        ignored, since another version may have written them."""
        values = {}
        for name, value in self.fleet.tuning.values.items():
            if name in TUNABLES:
                try:
                    values[name] = TUNABLES[name].check_value(value.value)
                except ValueError:
                    continue
        calm = with_tuned_values(self._calm, values)
        if all(getattr(calm, low, 0) <= getattr(calm, high, 0) for low, high in BELOW):
            self.placing.set_damping_rules(calm)

    def current_value(self, name: str) -> Number:
        """The value that applies, or is about to."""
        return self.latest.values[name].value if name in self.latest.values else self.base[name]

    def feed_item(self) -> FeedItem:
        """The feed item for the workers: all values that are tuned for them."""
        ours = {
            n: v.value
            for n, v in self.latest.values.items()
            if n in TUNABLES and TUNABLES[n].by_worker
        }
        words = (
            ", ".join(f"{n} {TUNABLES[n].format_value(v)}" for n, v in ours.items())
            or "as in the settings"
        )
        title = f"Tuning {self.latest.version}: {words}"
        values = TuningValues(self.latest.version, tuple(sorted(ours.items())))
        return FeedItem(TUNING, CURRENT, title, title, values, self.fleet.leader_epoch)

    def find_unacknowledged(self) -> list[View]:
        """The workers that have not acknowledged the written version; none if nothing was ever
        tuned."""
        if not self.fleet.tuning.version:
            return []
        return [v for v in self.fleet.views.values() if not self._has_acknowledged(v)]

    def _has_acknowledged(self, view: View) -> bool:
        t = view.telemetry
        return view.present and t is not None and t.tuning == self.fleet.tuning.version

    # ---- a change ----

    def set_value(self, tunable: Tunable, value: Number | None, by: str, now_ms: int) -> Tuning:
        """The record with this value; None takes the setting back."""
        values = {n: v for n, v in self.latest.values.items() if n != tunable.name}
        if value is not None:
            values[tunable.name] = Tuned(value, by, now_ms)
        self.latest = replace(self.latest, values=values)
        if tunable.by_worker:
            self.latest = replace(self.latest, version=self.latest.version + 1, since_ms=now_ms)
        return self.latest

    def follow_progress(
        self, words: str, version: int, now: float, reply: Reply | None = None
    ) -> None:
        """From now on `tell_progress` reports how many workers have this version."""
        self._following = _Change(words, version, now, reply=reply)

    def tell_progress(self, now: float) -> Iterator[Effect]:
        """One message, corrected at most every 3 s as more workers have the change, until all
        have it or FOLLOWED_S is over."""
        change = self._following
        # Nothing is said before the change is written.
        if change is None or self.fleet.tuning.version != change.version:
            return
        lacking = tuple(sorted(v.spec.worker for v in self.find_unacknowledged()))
        if now - change.since > FOLLOWED_S:
            self._following = None
            return
        due = change.since + FIRST_S if change.told_at < 0 else change.told_at + CORRECT_EVERY_S
        fresh = change.told_at < 0 or lacking != change.lacked
        if fresh and (now >= due or (not lacking and change.told_at < 0)):
            change.told_at, change.lacked = max(now, 0.0), lacking
            yield Say(
                f"{change.words}; {self.format_progress(now)}",
                f"tuning-{change.version}",
                change.reply,
            )
        if not lacking and change.lacked == () and change.told_at >= 0:
            self._following = None

    def format_progress(self, now: float) -> str:
        """`10 of 11 workers have it, not yet iad-1 (gone)`."""
        lacking = self.find_unacknowledged()
        total = len(self.fleet.views)
        text = f"{total - len(lacking)} of {total} workers have it"
        if lacking:
            some = ", ".join(_format_worker(v, now) for v in lacking[:NAMED])
            text += f", not yet {some}" + (
                f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
            )
        return text


def _format_worker(view: View, now: float) -> str:
    name = view.spec.label
    if not view.present:
        return f"{name} (gone)"
    silent_s = now - view.heard_at
    return f"{name} (silent for {silent_s:.0f} s)" if silent_s > CORRECT_EVERY_S else name
