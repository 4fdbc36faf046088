"""How far off is the forecast of a lane's arrival rate, compared with the last value, the last hour
and the same time yesterday? Uses three months of real flights, learned online. Writes
docs/forecast.md.

    python -m benchmarks.forecast [--quick] [--no-write]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from agents.core.planning.forecast import Forecast
from benchmarks.recorded import AIRPORTS, DAY_S, FLIGHTS, ROOT, Flights, Floats, flights, need
from benchmarks.tables import machine

PAGE = ROOT / "docs" / "forecast.md"
LANES = 32
BIN_S = 300
BINS = DAY_S // BIN_S
AHEAD_MIN = (15, 30, 60)
FIRST_DAY = 7
OURS, BASE = "geolane", "last value"
WHAT = {
    OURS: "geolane",
    "blind": "geolane, told nothing of longitudes",
    BASE: "last value",
    "last hour": "mean of the last hour",
    "yesterday": "same time yesterday",
}


def foretell(rates: Floats, lon: Floats | None) -> tuple[dict[int, Floats], float]:
    """What `Forecast` predicts after each bin, by minutes ahead, float64[T, L]; and the CPU time in
    ms that a bin takes."""
    forecast = Forecast(rates.shape[1], lon=lon)
    said = {minutes: np.zeros_like(rates) for minutes in AHEAD_MIN}
    began = time.process_time()
    for t, rate in enumerate(rates):
        now_s = (t + 1) * BIN_S
        forecast.observe_rates(now_s, rate)
        for minutes, out in said.items():
            out[t] = forecast.predict_rates(
                now_s, minutes * 60 - BIN_S / 2
            )  # the middle of the bin that is judged
    return said, (time.process_time() - began) * 1000 / len(rates)


def naive(rates: Floats) -> dict[str, dict[int, Floats]]:
    """Predictions without learning, after each bin. Before the second day, "yesterday" is the last
    value."""
    sums = np.vstack([np.zeros(rates.shape[1]), np.cumsum(rates, axis=0)])
    hour = 3600 // BIN_S
    since = np.maximum(np.arange(1, len(rates) + 1) - hour, 0)
    mean = (sums[1:] - sums[since]) / (np.arange(1, len(rates) + 1) - since)[:, None]
    found: dict[str, dict[int, Floats]] = {BASE: {}, "last hour": {}, "yesterday": {}}
    for minutes in AHEAD_MIN:
        then = np.arange(len(rates)) + minutes * 60 // BIN_S - BINS
        found[BASE][minutes] = rates
        found["last hour"][minutes] = mean
        found["yesterday"][minutes] = np.where(
            (then >= 0)[:, None], rates[np.maximum(then, 0)], rates
        )
    return found


def errors(said: Floats, rates: Floats, minutes: int) -> tuple[Floats, Floats]:
    """The mean absolute error by day and lane, events/h, and the same with each bin weighted by the
    whole fleet's events in it; float64[days, L]. Day d is judged by the predictions for its bins,
    whenever they were made."""
    steps = minutes * 60 // BIN_S
    off = np.full_like(rates, np.nan)
    off[steps:] = np.abs(said[:-steps] - rates[steps:]) * 3600
    by_day = off.reshape(-1, BINS, rates.shape[1])
    fleet = rates.sum(axis=1).reshape(-1, BINS, 1)
    plain: Floats = by_day.mean(axis=1)
    weighted: Floats = (by_day * fleet).sum(axis=1) / fleet.sum(axis=1)
    return plain, weighted


def ratio(ours: Floats, other: Floats, seed: int = 0) -> tuple[float, float, float]:
    """The ratio of the mean errors, with its 95 % interval by resampling days."""
    picks = np.random.default_rng(seed).integers(0, len(ours), (2000, len(ours)))
    many = ours[picks].mean(axis=1) / other[picks].mean(axis=1)
    low, high = np.percentile(many, [2.5, 97.5])
    return float(ours.mean() / other.mean()), float(low), float(high)


def floor_eph(rates: Floats) -> float:
    """The mean absolute error, events/h, of an oracle that knows each bin's true rate, if flights
    left at random (Poisson) at the rate of that lane and time of the week. No forecast can be much
    below it."""
    weeks = len(rates) // (7 * BINS)
    mean = rates[: weeks * 7 * BINS].reshape(weeks, 7 * BINS, -1).mean(axis=0) * BIN_S
    drawn = np.random.default_rng(0).poisson(mean, (20, *mean.shape))
    return float(np.abs(drawn - mean).mean() * 3600 / BIN_S)


def page(
    stream: Flights, rates: Floats, said: Mapping[str, Mapping[int, Floats]], cpu_ms: float
) -> str:
    days = len(rates) // BINS
    found = {name: {m: errors(out[m], rates, m) for m in AHEAD_MIN} for name, out in said.items()}
    head = " | ".join(f"{m} min" for m in AHEAD_MIN)

    def table(pick: int, what: slice) -> list[str]:
        lines = [f"| | {head} |", "|---|" + "---|" * len(AHEAD_MIN)]
        for name, by_ahead in found.items():
            cells = " | ".join(f"{np.nanmean(by_ahead[m][pick][what]):.2f}" for m in AHEAD_MIN)
            lines.append(f"| {WHAT[name]} | {cells} |")
        return lines

    judged, second = slice(FIRST_DAY, days), slice(1, 2)
    lines = [
        "Mean absolute error in events/h per lane, days 8 to the last:",
        "",
        *table(0, judged),
        "",
    ]
    lines += [
        "The same, with each five minutes weighted by what the whole fleet got in them:",
        "",
        *table(1, judged),
        "",
    ]
    lines += [
        "Day 2 alone, when one day has been seen (mean absolute error, events/h):",
        "",
        *table(0, second),
        "",
    ]
    lines += [f"| geolane's error as a share of | {head} |", "|---|" + "---|" * len(AHEAD_MIN)]
    for name in said:
        if name != OURS:
            cells = []
            for m in AHEAD_MIN:
                middle, low, high = ratio(
                    found[OURS][m][0][judged].mean(axis=1), found[name][m][0][judged].mean(axis=1)
                )
                cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
            lines.append(f"| {WHAT[name]} | {' | '.join(cells)} |")
    mean = rates[FIRST_DAY * BINS :].mean() * 3600
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"""# Forecast

How far off is the forecast of a lane's arrival rate (`agents/core/planning/forecast.py`), compared with simpler forecasts?
`python -m benchmarks.forecast` measures it again and writes this page.

{chr(10).join(lines)}

{now}; {machine()}. {len(stream.at_s):,} US flights of {days} days (BTS, 2001), divided into {LANES} lanes by the product's own
lane map and counted in bins of {BIN_S // 60} minutes. Each forecast is judged on the rate of the five minutes that end 15, 30 or 60 minutes
later. All learning is online: at each time only the past is known (except the cells of the lane map, which come from the week of
8 January). Brackets: 95 %, by resampling days. A bin takes {cpu_ms:.2f} ms of CPU for all lanes: one `observe_rates`, three
`predict_rates`.

- A lane gets {mean:.1f} flights an hour on average, or 1 or 2 in five minutes, so most of each error is chance. If flights left at
  random at the true rate of their lane and time of the week, a forecast that knew this rate would still be off by
  {floor_eph(rates):.2f} events/h. Timetables repeat to the minute, so a smaller error is possible.
- "Last value" mistakes that chance for information. The mean of the last hour is the fairer comparison on day 1, the same time
  yesterday from day 2 on.
- After one day, a lane's own history is that one day. The day of the whole fleet, shifted with the sun, helps it then.
- The constants were chosen on the first 30 days; the other {days - 30} days are new to the forecast.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="the first three weeks only; writes nothing"
    )
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    need(FLIGHTS, AIRPORTS)
    stream = flights(LANES)
    rates = stream.rates_eps(BIN_S)[: 21 * BINS if options.quick else None]
    ours, cpu_ms = foretell(rates, stream.lane_lon())
    blind, _ = foretell(rates, None)
    text = page(stream, rates, {OURS: ours, "blind": blind, **naive(rates)}, cpu_ms)
    print(text)
    if not (options.quick or options.no_write):
        PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
