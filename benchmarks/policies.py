"""How long do events take under different ways to place lanes: round robin, power of two choices,
nearest only, geolane's planner? Replays the recorded flights in virtual time through the real core.
Writes docs/policies.md.

    python -m benchmarks.policies [--quick] [--no-write]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tomllib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import numpy as np

from agents.core.model.plan import Lane, Memory, Moment, Node, NodePlace, PlanningFrame
from agents.core.planning.forecast import Forecast
from agents.core.planning.planner import make_plan
from agents.geodata import read_rtt
from agents.settings.calm import Calm
from benchmarks.recorded import AIRPORTS, DAY_S, FLIGHTS, ROOT, Flights, Floats, Ints, flights, need
from benchmarks.tables import machine
from benchmarks.virtual import (
    COMPRESS,
    JITTER_S,
    MEAN_EPS,
    NIGHT_S,
    PERCENTILES,
    TICK_S,
    Outcome,
    Policy,
    Stream,
    folded,
    play,
    rtt_ms,
    trace,
)
from kernels import Numerics, RttModel, Weights
from kernels.scoring.choose import choose_numerics

PAGE = ROOT / "docs" / "policies.md"
INVENTORY = ROOT / "agents" / "local" / "demo" / "data" / "inventory.toml"
LANES = 64
FOLD_DAYS = 60
SEEDS = 5
LOADS = (0.5, 0.6, 0.7)
WARM_DAYS = 2
MOST = 0.7  # 30 % below
ROBIN, TWO, NEAREST, OURS, FULLER = "robin", "two", "nearest", "geolane", "fuller"
FULLER_TO = 0.95
CALM = {FULLER: Calm(target_utilisation=FULLER_TO)}
WHAT = {
    OURS: "geolane",
    FULLER: f"geolane, `target_utilisation` {FULLER_TO:g}",
    ROBIN: "round robin",
    TWO: "power of two choices",
    NEAREST: "nearest only",
}
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}  # Student's t, two-sided, by number of values


@dataclass(frozen=True)
class Fleet:
    """The embedded sites, with one node at each and its capacity (events/s, float64[N])."""

    places: tuple[NodePlace, ...]
    capacity_eps: Floats
    rtt: RttModel

    def rtt_ms(self, lat: Floats, lon: Floats) -> Floats:
        return rtt_ms(
            lat,
            lon,
            np.array([p.lat for p in self.places]),
            np.array([p.lon for p in self.places]),
            np.array([p.site for p in self.places], dtype=np.int32),
            self.rtt,
        )


class RoundRobin:
    """Lanes are dealt to nodes in turn, once, from a shuffled list, as Kafka's RoundRobinAssignor
    does."""

    def __init__(self, lanes: int, nodes: int, rng: np.random.Generator) -> None:
        self.owner: Ints = rng.permutation(np.arange(lanes) % nodes).astype(np.int32)

    def place(self, now_s: float, rate_eps: Floats | None, owner: Ints) -> Ints:
        return self.owner


class PowerOfTwo:
    """Each lane goes to the less loaded of two nodes drawn at random. While a node is hot, one of
    its lanes is drawn at each tick and moves if that leaves both nodes below the hot one's load."""

    ACT_ABOVE = 1.25

    def __init__(
        self, expected_eps: Floats, capacity_eps: Floats, rng: np.random.Generator
    ) -> None:
        self.expected_eps, self.capacity_eps, self.rng = expected_eps, capacity_eps, rng

    def place(self, now_s: float, rate_eps: Floats | None, owner: Ints) -> Ints:
        rate = self.expected_eps if rate_eps is None else rate_eps
        out = owner.copy()
        use: Floats = np.bincount(
            out[out >= 0], rate[out >= 0], minlength=len(self.capacity_eps)
        ).astype(np.float64)
        for lane in np.flatnonzero(out < 0):
            to = self._draw(use, float(rate[lane]))
            out[lane] = to
            use[to] += rate[lane]
        share = use / self.capacity_eps
        hot = int(share.argmax())
        if share[hot] > self.ACT_ABOVE * use.sum() / self.capacity_eps.sum():
            drawn = int(self.rng.choice(np.flatnonzero(out == hot)))
            to = self._draw(use, float(rate[drawn]))
            if (use[to] + rate[drawn]) / self.capacity_eps[to] < share[hot]:
                out[drawn] = to
        return out

    def _draw(self, use: Floats, more_eps: float) -> int:
        two = self.rng.choice(len(use), 2, replace=False)
        return int(two[((use[two] + more_eps) / self.capacity_eps[two]).argmin()])


class Nearest:
    """Each lane goes to the node with the shortest modelled round trip, whatever the load."""

    def __init__(self, rtt: Floats) -> None:
        self.owner: Ints = rtt.argmin(axis=1).astype(np.int32)

    def place(self, now_s: float, rate_eps: Floats | None, owner: Ints) -> Ints:
        return self.owner


class Geolane:
    """The real planner at every tick, with the coordinator's record of cooldowns. A move is over
    before the next tick."""

    def __init__(
        self,
        frame: PlanningFrame,
        numerics: Numerics,
        capacity_eps: Floats,
        expected_eps: Floats,
        forecast: Forecast,
    ) -> None:
        self.frame, self.numerics = frame, numerics
        self.nodes = tuple(
            Node(p.id, float(c)) for p, c in zip(frame.nodes, capacity_eps, strict=True)
        )
        self.expected_eps, self.forecast = expected_eps, forecast
        self.memory = Memory()
        self.cooldown_s = np.full(len(expected_eps), -np.inf)
        self.before: Ints = np.full(len(expected_eps), -1, dtype=np.int32)
        self.left_s = np.full(len(expected_eps), -np.inf)
        self.returns = np.zeros(len(expected_eps))

    def place(self, now_s: float, rate_eps: Floats | None, owner: Ints) -> Ints:
        at_s = WARM_DAYS * self.forecast.day_s + now_s
        if rate_eps is not None:
            self.forecast.observe_rates(at_s, rate_eps)
        ahead = self.forecast.predict_rates(at_s, self.frame.calm.forecast_s)
        lanes = tuple(
            Lane(
                i,
                None if rate_eps is None else float(rate_eps[i]),
                float(self.expected_eps[i]),
                owner=None if owner[i] < 0 else int(owner[i]),
                cooldown_until_s=float(self.cooldown_s[i]),
                forecast_eps=None if np.isnan(ahead[i]) else float(ahead[i]),
            )
            for i in range(len(owner))
        )
        found = make_plan(self.frame, Moment(now_s, lanes, self.nodes, self.memory), self.numerics)
        self.memory = found.memory
        out = owner.copy()
        for a in found.assignments:
            out[a.lane] = a.to
        for m in found.moves:
            out[m.lane] = m.to
            self._gave(m.lane, m.frm, m.to, now_s)
        return out

    def _gave(self, lane: int, frm: int, to: int, now_s: float) -> None:
        calm = self.frame.calm
        back = self.before[lane] == to and now_s - self.left_s[lane] <= 2 * calm.cooldown_most_s
        self.returns[lane] = self.returns[lane] + 1 if back else 0
        self.before[lane], self.left_s[lane] = frm, now_s
        rest_s = min(calm.cooldown_s * 2.0 ** float(self.returns[lane]), calm.cooldown_most_s)
        self.cooldown_s[lane] = now_s + rest_s


def fleet_of(rng: np.random.Generator, busiest_eps: float, load: float) -> Fleet:
    """The ten embedded sites. Their nodes have 0.8 to 1.2 of the mean capacity; `load` of the
    fleet's capacity is used in the busiest hour."""
    inventory = tomllib.loads(INVENTORY.read_text("utf-8"))
    rtt = read_rtt()
    row_of = {name: i for i, name in enumerate(rtt.regions)}
    sites = {s["name"]: s for s in inventory["site"]}
    places = tuple(
        NodePlace(n["name"], (s := sites[n["site"]])["lat"], s["lon"], row_of[s["region"]])
        for n in inventory["node"]
    )
    weight = rng.uniform(0.8, 1.2, len(places))
    return Fleet(places, busiest_eps / load * weight / weight.sum(), rtt)


def busiest_eps(stream: Stream) -> float:
    """Events/s in the busiest hour of the recorded day."""
    per_tick = stream.rate_eps.sum(axis=1)
    hour = len(per_tick) // 24
    return float(np.convolve(per_tick, np.ones(hour) / hour, mode="valid").max())


class Setting:
    """One seed's world: which days are folded, each node's capacity, where lanes are dealt at
    first."""

    def __init__(self, recorded: Flights, seed: int, load: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.where, place = np.unique(
            np.stack([recorded.lat, recorded.lon], axis=1), axis=0, return_inverse=True
        )
        days = self.rng.permutation(recorded.days)
        at = place.ravel().astype(np.int32)
        self.stream = folded(recorded, at, days[:FOLD_DAYS], self.rng)
        self.others = folded(recorded, at, days[FOLD_DAYS:], self.rng)
        self.fleet = fleet_of(self.rng, busiest_eps(self.stream), load)
        self.lat, self.lon = (
            np.array(column) for column in zip(*recorded.lanemap.centroid, strict=True)
        )
        expected = np.array(recorded.lanemap.rate_eps)
        self.expected_eps: Floats = expected * (MEAN_EPS / expected.sum())

    def policy(self, name: str, numerics: Numerics, calm: Calm) -> Policy:
        lanes, capacity_eps = len(self.lat), self.fleet.capacity_eps
        if name == ROBIN:
            return RoundRobin(lanes, len(capacity_eps), self.rng)
        if name == TWO:
            return PowerOfTwo(self.expected_eps, capacity_eps, self.rng)
        if name == NEAREST:
            return Nearest(self.fleet.rtt_ms(self.lat, self.lon))
        frame = PlanningFrame(
            tuple(self.lat.tolist()),
            tuple(self.lon.tolist()),
            (-1,) * lanes,
            self.fleet.places,
            (),
            self.fleet.rtt,
            calm,
            Weights(),
        )
        return Geolane(frame, numerics, capacity_eps, self.expected_eps, self._taught())

    def _taught(self) -> Forecast:
        """A forecast that has seen the days that are not folded into this one."""
        day_s = DAY_S / COMPRESS
        # The virtual day begins at NIGHT_S, so on its clock the sun is that much further east.
        forecast = Forecast(len(self.lon), day_s=day_s, lon=self.lon + NIGHT_S / DAY_S * 360.0)
        for day in range(WARM_DAYS):
            for t, rate in enumerate(self.others.rate_eps):
                forecast.observe_rates(day * day_s + (t + 1) * TICK_S, rate)
        return forecast

    def run(self, name: str, numerics: Numerics, calm: Calm) -> Outcome:
        owner = trace(self.policy(name, numerics, calm), self.stream)
        return play(self.stream, owner, self.fleet.capacity_eps, self.fleet.rtt_ms(*self.where.T))


def interval(values: Sequence[float], digits: int = 2) -> str:
    """Geometric mean (95 % from to, by Student's t on the logarithms), since latencies and ratios
    are skewed."""
    logs = np.log(values)
    half = T_95[len(logs)] * float(np.std(logs, ddof=1)) / len(logs) ** 0.5
    mean, low, high = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    return f"{mean:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def percentile(runs: Sequence[Outcome], q: int) -> list[float]:
    return [r.latency_ms[q] for r in runs]


def shares(found: dict[str, list[Outcome]], name: str, q: int, ours: str = OURS) -> list[float]:
    """Our percentile as a share of another's, by seed."""
    return [
        a / b for a, b in zip(percentile(found[ours], q), percentile(found[name], q), strict=True)
    ]


def skews(found: dict[str, list[Outcome]], name: str) -> dict[str, list[float]]:
    """Our skew as a share of another's, by seed: max/mean itself, and its part beyond an even
    load."""
    pairs = list(zip(found[OURS], found[name], strict=True))
    day = [(a.skew, b.skew) for a, b in pairs]
    busiest = [(a.hottest / a.utilisation, b.hottest / b.utilisation) for a, b in pairs]
    return {
        "max/mean, day": [a / b for a, b in day],
        "max/mean, busiest hour": [a / b for a, b in busiest],
        "beyond even, day": [(a - 1) / (b - 1) for a, b in day],
        "beyond even, busiest hour": [(a - 1) / (b - 1) for a, b in busiest],
    }


def tables(found: dict[str, list[Outcome]]) -> str:
    lines = [
        "| | p50, ms | p75, ms | p99, ms | mean round trip, ms | max/mean load, day | max/mean, "
        "busiest hour | moves/h |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, what in WHAT.items():
        runs = found[name]
        lines.append(
            f"| {what} | "
            + " | ".join(interval(percentile(runs, q), 0 if q == 99 else 1) for q in PERCENTILES)
            + f" | {np.mean([r.rtt_ms for r in runs]):.1f} | {interval([r.skew for r in runs])} | "
            f"{interval([r.hottest / r.utilisation for r in runs])} | "
            f"{np.mean([r.moves_per_hour for r in runs]):.0f} |"
        )
    lines += [
        "",
        f"| geolane as a share of | p50 | p75 | p99 | {' | '.join(skews(found, ROBIN))} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in (ROBIN, TWO, NEAREST):
        cells = [interval(shares(found, name, q)) for q in PERCENTILES]
        cells += [interval(ratios) for ratios in skews(found, name).values()]
        lines.append(f"| {WHAT[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(found: dict[str, list[Outcome]]) -> str:
    """The targets, and whether they were reached."""
    said = []
    for name, q in [(name, q) for name in (ROBIN, TWO) for q in (50, 99)] + [(NEAREST, 75)]:
        share = geometric_mean(shares(found, name, q))
        said.append(
            f"p{q} {share:.2f} of {WHAT[name]} ({'reached' if share <= MOST else 'not reached'})"
        )
    for what, ratios in skews(found, NEAREST).items():
        share = geometric_mean(ratios)
        said.append(
            f"{what} {share:.2f} of {WHAT[NEAREST]} "
            f"({'reached' if share <= 0.5 else 'not reached'})"
        )
    share = geometric_mean(shares(found, TWO, 99, FULLER))
    said.append(f"with `target_utilisation` {FULLER_TO:g} p99 {share:.2f} of {WHAT[TWO]}")
    return "; ".join(said)


def page(found: dict[float, dict[str, list[Outcome]]], numerics: Numerics) -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    seeds = len(next(iter(found.values()))[OURS])
    parts = [
        f"## {load:.0%} of the fleet in the busiest hour\n\n{tables(by_name)}\n\nThe targets "
        "were 0.70, and 0.50 for the skew: "
        f"{verdict(by_name)}."
        for load, by_name in found.items()
    ]
    return f"""# Policies

Everything on this page is in virtual time: round trips are taken from a table, and no Kafka runs. [distance.md](distance.md) compares
ways to place lanes live, with real processes, a real Kafka and real delays.

How long do events take under different ways to place lanes? A day of recorded flights runs in virtual time through the real core
(planner, calm rules, forecast, kernel `{numerics.name}`) and through three simple policies. `python -m benchmarks.policies` measures it
again and writes this page.

{(chr(10) * 2).join(parts)}

{now}; {machine()}; {seeds} seeds; geometric means; brackets: 95 % by Student's t. Latency is the modelled round trip
from an event's own airport to the node, plus its wait in the node's queue, plus its processing time. Medians and percentiles are over the
events of {FOLD_DAYS} recorded days (about a million).

- **The day**: {FOLD_DAYS} of the 89 recorded days, drawn by the seed, laid over one another, {COMPRESS} times as fast (a day in two hours).
  Timetables are rounded, so each event is shifted at random (standard deviation {JITTER_S / 60:.0f} min). Each event counts as several, so that
  the average is {MEAN_EPS:,.0f} events/s. The day begins at 08:00 UTC, when traffic is lowest, and no lane has an owner then. The forecast has
  seen the other days, twice.
- **The fleet**: a node at each of the ten embedded sites, from 0.8 to 1.2 of the mean capacity, drawn by the seed; {LANES} lanes from the
  product's own lane map. Round trips come from the product's model (Azure's measured medians and the fitted line), not from a network.
- **The queue**: fluid, first in first out, in steps of 0.1 s (`benchmarks/virtual.py` says why). A move delays the lane's
  events by 300 ms. Every policy decides each {TICK_S:.0f} s and sees the same rates.
- **Round robin**: lanes dealt in turn, once, from a shuffled list. **Power of two choices**: each lane to the less loaded of two
  nodes drawn at random; a node above 1.25 x mean has one of its lanes drawn again at each tick. **Nearest only**: the shortest
  modelled round trip, whatever the load. None of them weighs distance and load together, as geolane does.
- **Max/mean load** is the busiest node's utilisation over the fleet's, by minute, weighted by events; *beyond even* is its
  excess over 1, the value of an even load. (Half of nearest only's max/mean would be nearly even already, at any distance.) geolane lets
  nodes differ while none is above `comfortable` or `settle_to` x mean, since that does no harm; the busiest hour is where it
  matters.
- **`target_utilisation`** is {Calm().target_utilisation:g} by default: the limit to which a node is filled before lanes are placed further away.
  The queue here is fluid, so nothing waits below the capacity, and {FULLER_TO:g} looks better than it is where events arrive in bursts.
- **Nearest only at 50 %** has queues at few nodes, and gives each lane the shortest possible round trip. No placement can be much below
  its p75 then.
- Moves are counted per hour of virtual time; {COMPRESS} recorded hours pass in it.
"""


@cache
def _given() -> tuple[Flights, Numerics]:
    """What every seed needs, once per process."""
    return flights(LANES), choose_numerics()


def one_seed(seed: int, load: float) -> dict[str, Outcome]:
    recorded, numerics = _given()
    setting = Setting(recorded, seed, load)
    return {name: setting.run(name, numerics, CALM.get(name, Calm())) for name in WHAT}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two seeds, one load; writes nothing")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    need(FLIGHTS, AIRPORTS)
    numerics = choose_numerics()  # compiled here once, for all processes
    found: dict[float, dict[str, list[Outcome]]] = {}
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        for load in LOADS[-1:] if options.quick else LOADS:
            seeds = range(2 if options.quick else SEEDS)
            runs = list(pool.map(one_seed, seeds, [load] * len(seeds)))
            found[load] = {name: [outcome[name] for outcome in runs] for name in WHAT}
    text = page(found, numerics)
    print(text)
    if not (options.quick or options.no_write):
        PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
