"""The command `tune [NAME [VALUE]]`; core/fleet/tuner.py keeps the values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agents.base.errors import OperatorError
from agents.base.suggest import suggest_names
from agents.core.effects import Effect, Publish, Say, Write
from agents.core.fleet.tuner import Tuner
from agents.core.model.answers import Answer, SettingRow, TuningData
from agents.core.model.placement import Tuned
from agents.core.model.times import format_clock, utc_from_ms
from agents.core.operators.command import Context, Dry
from agents.settings.tunables import BELOW, TUNABLES, Number, Tunable

DEFAULT = "default"


def show_or_tune_setting(c: Context, args: Sequence[str]) -> Answer | Dry:
    """The tuned values, one setting, or the dry run of a change. Raises OperatorError for an
    unknown name or an invalid value."""
    if not args:
        return Answer(_describe_tuned(c), _tuning_data(c, *TUNABLES.values()))
    tunable = TUNABLES.get(args[0].strip().lower())
    if tunable is None:
        raise OperatorError(f"{args[0][:40]!r} cannot be tuned. {suggest_names(args[0], TUNABLES)}")
    if len(args) < 2:
        return Answer(_describe_setting(c, tunable), _tuning_data(c, tunable))
    return _predict_tuning(c, tunable, args[1])


def _tuning_data(c: Context, *shown: Tunable) -> TuningData:
    return TuningData(
        version=c.fleet.tuning.version,
        lacking=tuple(view.spec.label for view in c.tuner.find_unacknowledged()),
        settings=tuple(_setting_row(c, x) for x in shown),
    )


def _setting_row(c: Context, x: Tunable) -> SettingRow:
    held = c.fleet.tuning.values.get(x.name)
    return SettingRow(
        name=x.name,
        value=c.tuner.current_value(x.name),
        default=c.tuner.base[x.name],
        unit=x.unit,
        workers=x.by_worker,
        allowed=x.wants,
        tuned_by=held.by if held else None,
        tuned_at=utc_from_ms(held.since_ms) if held else None,
    )


def _describe_tuned(c: Context) -> str:
    t, tuner = c.fleet.tuning, c.tuner
    lines = [
        f"{len(t.values)} of {len(TUNABLES)} settings are tuned."
        if t.values
        else "No setting is tuned."
    ]
    if t.version:
        lines.append(
            f"Version {t.version}, {(c.now_ms - t.since_ms) / 1000:,.0f} s old: "
            f"{tuner.format_progress(c.now)}."
        )
    for name, v in t.values.items():
        if name in TUNABLES:
            lines.append(
                f"{name} {TUNABLES[name].format_value(v.value)}{_describe_default(tuner, name)}, "
                f"{_describe_author(v)}"
            )
    if c.chat:
        workers = ", ".join(n for n, x in TUNABLES.items() if x.by_worker)
        lines.insert(
            1 + bool(t.version),
            f"Workers: {workers}; planner: {len(TUNABLES) - workers.count(',') - 1} more.",
        )
    else:
        lines += [
            f"{n} {TUNABLES[n].format_value(tuner.base[n])}" for n in TUNABLES if n not in t.values
        ]
    return "\n".join(lines)


def _describe_setting(c: Context, x: Tunable) -> str:
    held = c.fleet.tuning.values.get(x.name)
    lines = [
        f"{x.name} is {x.format_value(c.tuner.current_value(x.name))}"
        + (_describe_default(c.tuner, x.name) if held else " (settings)")
        + "."
    ]
    lines.append(f"{x.about} Must be {x.wants}{f' ({x.unit})' if x.unit else ''}.")
    if held:
        lines.append(f"Set {_describe_author(held)}; tune {x.name} {DEFAULT} undoes it.")
    if x.by_worker and c.fleet.tuning.version:
        lines.append(f"Version {c.fleet.tuning.version}: {c.tuner.format_progress(c.now)}.")
    return "\n".join(lines)


def _describe_default(tuner: Tuner, name: str) -> str:
    return f" (settings: {TUNABLES[name].format_value(tuner.base[name])})"


def _describe_author(v: Tuned) -> str:
    return f"by {v.by.partition('@')[0]} at {format_clock(v.since_ms)} UTC"


def _predict_tuning(c: Context, x: Tunable, text: str) -> Dry:
    back = text.strip().lower() == DEFAULT
    held = x.name in c.tuner.latest.values
    try:
        value = c.tuner.base[x.name] if back else x.parse_value(text.strip())
    except ValueError as e:
        raise OperatorError(f"{x.name} {e}.") from None
    before = c.tuner.current_value(x.name)
    if (back and not held) or (not back and value == before and held):
        raise OperatorError(
            f"{x.name} is already {x.format_value(before)}{'' if held else ', as in the settings'}."
        )
    _check_order(c.tuner, x.name, value)
    if x.by_worker:
        there = sum(v.present for v in c.fleet.views.values())
        who = f"{len(c.fleet.views)} workers apply it without a restart; {there} are here now."
    else:
        who = "The planner applies it from its next plan on; workers do not use it."
    change = f"{x.name} from {x.format_value(before)} to {x.format_value(value)}" + (
        " (settings)" if back else ""
    )
    limits = f"It must be {x.wants}{f' ({x.unit})' if x.unit else ''}."
    title = f"tune {x.name} {DEFAULT if back else text.strip()}"

    def tune_setting(done: Context) -> Iterator[Effect]:
        tuner = done.tuner
        _check_order(tuner, x.name, value)
        was = tuner.current_value(x.name)
        tuning = tuner.set_value(x, None if back else value, done.jid, done.now_ms)
        words = (
            f"{done.nick.partition('@')[0]}: {x.name} is {x.format_value(value)} "
            f"(was {x.format_value(was)})"
        )
        if x.by_worker:
            tuner.follow_progress(words, tuning.version, done.now, done.reply)
            yield Write(tuning=tuning, then=(Publish(tuner.feed_item()),))
        else:
            yield Write(
                tuning=tuning, then=(Say(f"{words}; the planner has it.", reply=done.reply),)
            )

    said = f"Tune {change}. {x.about}\n{limits}\n{who}"
    return Dry(title, said, tune_setting, rests=lambda then: then.tuner.current_value(x.name))


def _check_order(tuner: Tuner, name: str, value: Number) -> None:
    for low, high in BELOW:
        if name in (low, high):
            a, b = (value if n == name else tuner.current_value(n) for n in (low, high))
            if a > b:
                raise OperatorError(f"{low} would be {a:g}, above {high}, which would be {b:g}.")
