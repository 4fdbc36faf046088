"""Forecast of the arrival rate of each lane: if the shape of its day is known, that shape times how
today compares with it; if not, the level and its damped trend.

Pure NumPy over all lanes at once, with time passed in. Every time constant is a share of the day,
so that a replay in which a day takes a minute is forecast like a real one. Measured in
docs/forecast.md."""

from __future__ import annotations

import base64
import binascii
import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from kernels.tables import Bools, Floats, Ints

# Memory of the level; three times as long for the slow level that it is compared with to find a
# trend, and for the noise.
LEVEL_DAYS: Final = 1 / 24
TODAY_DAYS: Final = 1 / 12  # memory of how today compares with other days
TODAY_DOUBT_DAYS: Final = 1 / 144  # until then, today counts as an ordinary day
FADE_DAYS: Final = 1 / 9  # today's difference from other days fades out over this time
TREND_DAYS: Final = 1 / 36  # a trend lasts for this long in all
TREND_DOUBT: Final = 3.0  # a trend's square counts as far as it exceeds this times the noise's
SHAPE_DAYS: Final = 21.0  # memory of the shape
DOUBT_DAYS: Final = 0.5  # a shape that was watched for this long counts half
BESIDE: Final = 0.2  # weight of the buckets before and after
FLEET_BUCKETS: Final = 96
FLEET_DOUBT: Final = 1.0  # lanes x days after which the fleet's shape counts half
FLEET_WORTH: Final = 0.7  # the most that it counts, compared with a lane's own shape
SHARE_DOUBT_DAYS: Final = 1 / 24  # until then, a lane counts as an average one
# Today may be up to this many times an ordinary day; anything beyond is added, not multiplied.
MOST_TIMES: Final = 4.0
SPIKE_SD: Final = 6.0  # a rate further out than this is believed only the second time
MOST_EPS: Final = 1e12
TINY: Final = 1e-9
VERSION: Final = 1


class _Mean:
    """A mean per lane, `num` over `den`, each float64[L]; a value that is `memory_s` old counts
    1/e."""

    def __init__(self, lanes: int, memory_s: float) -> None:
        self.num: Floats = np.zeros(lanes)
        self.den: Floats = np.zeros(lanes)
        self.memory_s = memory_s

    def add(self, gone_s: float, num: Floats, den: Floats) -> None:
        keep = math.exp(-gone_s / self.memory_s)
        self.num = self.num * keep + num
        self.den = self.den * keep + den

    def value(self) -> Floats:
        """The mean; 0 for a lane of which nothing is known."""
        out: Floats = self.num / np.maximum(self.den, TINY)
        return out


class Forecast:
    """Forecasts for L lanes, learned online: call `observe_rates`, then `predict_rates`,
    repeatedly. Equal calls give equal answers.

    `day_s`: the length of a day in seconds, on the clock that is passed in. `buckets`: parts of the
    day that are learned separately; none should be shorter than the time between two observations.
    `lon`: the lanes' longitude in degrees, float64[L]; with it, a lane whose day is not known yet
    follows the fleet's day, shifted by the sun. Raises ValueError for an argument out of range."""

    def __init__(
        self, lanes: int, *, day_s: float = 86400.0, buckets: int = 288, lon: Floats | None = None
    ) -> None:
        if lanes < 0 or buckets < 1 or not (math.isfinite(day_s) and day_s > 0):
            raise ValueError(f"forecast: {lanes} lanes, {buckets} buckets, a day of {day_s} s")
        if lon is not None and (lon.shape != (lanes,) or not np.isfinite(lon).all()):
            raise ValueError(f"forecast: lon is not {lanes} finite degrees")
        self.lanes, self.day_s, self.buckets = lanes, float(day_s), buckets
        self._bucket_s = self.day_s / buckets
        self._sun: Floats | None = None if lon is None else lon / 360.0
        self._at_s = math.nan
        self._every_s = self._bucket_s
        # Shapes forget by giving new values this growing weight, instead of shrinking all old ones.
        self._weight = 1.0
        # The day's shape, per lane and bucket: events that arrived, and seconds watched.
        self._came: Floats = np.zeros((lanes, buckets))
        self._watched_s: Floats = np.zeros((lanes, buckets))
        # The fleet's shape, by the sun: events and lane-seconds.
        self._fleet_came: Floats = np.zeros(FLEET_BUCKETS)
        self._fleet_watched_s: Floats = np.zeros(FLEET_BUCKETS)
        self._ever = _Mean(lanes, SHAPE_DAYS * self.day_s)  # the mean rate
        # How a lane compares with the fleet's day, and today with the lane's own day.
        self._share = _Mean(lanes, SHAPE_DAYS * self.day_s)
        self._today = _Mean(lanes, TODAY_DAYS * self.day_s)
        self._level = _Mean(lanes, LEVEL_DAYS * self.day_s)
        self._usually = _Mean(lanes, LEVEL_DAYS * self.day_s)  # the level on an ordinary day
        self._slow = _Mean(lanes, 3 * LEVEL_DAYS * self.day_s)
        self._noise = _Mean(lanes, 3 * LEVEL_DAYS * self.day_s)  # variance around the level
        self._before: Floats = np.zeros(lanes)

    def observe_rates(self, at_s: float, rate_eps: Floats) -> None:
        """Learn what arrived for each lane since the last call. `rate_eps`: events/s, float64[L];
        NaN, or any value that is not a finite number from 0, means unknown. `at_s`: seconds on a
        clock that runs with the day, such as the epoch's. If the clock steps back, the day goes on
        from there; a repeated time is ignored.

        Raises ValueError for rates of another length or a time that is not finite."""
        if rate_eps.shape != (self.lanes,) or not math.isfinite(at_s):
            raise ValueError(f"forecast: {rate_eps.shape} rates at {at_s}, for {self.lanes} lanes")
        if at_s == self._at_s:
            return
        gone_s, seen_s = self._advance_clock(at_s)
        middle_s = at_s - seen_s / 2
        known: Bools = np.isfinite(rate_eps) & (rate_eps >= 0)
        usual = self._usual_rates(middle_s)
        rate = self._limit_spikes(np.where(known, rate_eps, 0.0).clip(0.0, MOST_EPS), known, usual)
        watched: Floats = np.where(known, seen_s, 0.0)
        came: Floats = rate * watched
        self._learn_day(middle_s, gone_s, came, watched)
        self._ever.add(gone_s, came, watched)
        self._today.add(gone_s, came, usual * watched)
        off: Floats = np.where(self._level.den > 0, rate - self._level.value(), 0.0)
        self._noise.add(gone_s, off * off * watched, watched)
        self._level.add(gone_s, came, watched)
        self._usually.add(gone_s, usual * watched, watched)
        self._slow.add(gone_s, came, watched)

    def predict_rates(self, at_s: float, horizon_s: float) -> Floats:
        """The events/s that will arrive for each lane `horizon_s` after `at_s`, float64[L]: finite
        and from 0, or NaN for a lane of which nothing is known yet. Raises ValueError unless both
        are finite and the horizon is at least 0."""
        if not (math.isfinite(at_s) and math.isfinite(horizon_s) and horizon_s >= 0):
            raise ValueError(f"forecast: {horizon_s} s ahead of {at_s}")
        fade = math.exp(-horizon_s / (FADE_DAYS * self.day_s))
        doubt: Floats = np.maximum(self._ever.value(), TINY) * (TODAY_DOUBT_DAYS * self.day_s)
        times: Floats = np.minimum(
            (self._today.num + doubt) / (self._today.den + doubt), MOST_TIMES
        )
        beyond: Floats = np.maximum(0.0, self._level.value() - MOST_TIMES * self._usually.value())
        shaped: Floats = (
            self._usual_rates(at_s + horizon_s) * (1 + (times - 1) * fade) + beyond * fade
        )
        start, slope = self._estimate_trend()
        lasts_s = TREND_DAYS * self.day_s
        plain: Floats = start + slope * lasts_s * -math.expm1(-horizon_s / lasts_s)
        sure: Floats = np.sqrt(self._shape_sureness(at_s) * self._shape_sureness(at_s + horizon_s))
        out: Floats = np.clip(sure * shaped + (1 - sure) * plain, 0.0, MOST_EPS)
        return np.where(self._ever.den > 0, out, np.nan)

    # ---- the parts ----

    def _advance_clock(self, at_s: float) -> tuple[float, float]:
        """The seconds since the last observation, by which to forget, and the seconds that this one
        covers: after a gap, no more than usual."""
        gone_s = at_s - self._at_s
        self._at_s = at_s
        if not gone_s > 0:  # the first, or a clock that stepped back
            return self._every_s, self._every_s
        seen_s = gone_s if gone_s <= 4 * self._every_s else self._every_s
        self._every_s += 0.2 * (min(gone_s, 4 * self._every_s) - self._every_s)
        return min(gone_s, 10 * SHAPE_DAYS * self.day_s), seen_s

    def _limit_spikes(self, rate: Floats, known: Bools, usual: Floats) -> Floats:
        """The rates, in which one that is far above the expected value counts only up to the
        observation before it."""
        expected: Floats = np.maximum(self._level.value(), usual) + SPIKE_SD * np.sqrt(
            self._noise.value()
        )
        limit: Floats = np.maximum(expected, self._before)
        settled = self._noise.den > 6 * self._every_s
        self._before = np.where(known, rate, self._before)
        return np.where(settled, np.minimum(rate, limit), rate)

    def _learn_day(self, middle_s: float, gone_s: float, came: Floats, watched: Floats) -> None:
        self._weight *= math.exp(gone_s / (SHAPE_DAYS * self.day_s))
        if self._weight > 1e6:
            for shape in (self._came, self._watched_s, self._fleet_came, self._fleet_watched_s):
                shape /= self._weight
            self._weight = 1.0
        b = self._bucket_at(middle_s)
        self._came[:, b] += came * self._weight
        self._watched_s[:, b] += watched * self._weight
        if self._sun is not None:
            at: Ints = self._solar_positions(middle_s, self._sun).astype(np.int32) % FLEET_BUCKETS
            self._fleet_came += np.bincount(at, came * self._weight, FLEET_BUCKETS)
            self._fleet_watched_s += np.bincount(at, watched * self._weight, FLEET_BUCKETS)
            self._share.add(gone_s, came, self._fleet_rates(middle_s, self._sun) * watched)

    def _usual_rates(self, at_s: float) -> Floats:
        """The events/s of an ordinary day at that time: the lane's own as far as it was watched,
        else its share of the fleet's, else its mean."""
        prior = self._ever.value()
        if self._sun is not None:
            doubt_s = (
                SHARE_DOUBT_DAYS
                * self.day_s
                * self._fleet_came.sum()
                / max(self._fleet_watched_s.sum(), TINY)
            )
            share = (self._share.num + doubt_s) / np.maximum(self._share.den + doubt_s, TINY)
            prior = share * self._fleet_rates(at_s, self._sun)
        came, watched_s = (
            self._smooth_bucket(self._came, at_s),
            self._smooth_bucket(self._watched_s, at_s),
        )
        doubt_s = DOUBT_DAYS * self._bucket_s
        out: Floats = (came + doubt_s * prior) / (watched_s + doubt_s)
        return out

    def _shape_sureness(self, at_s: float) -> Floats:
        """How much of the day's shape at that time is known, 0 to 1."""
        watched_s = self._smooth_bucket(self._watched_s, at_s)
        sure: Floats = watched_s / (watched_s + DOUBT_DAYS * self._bucket_s)
        if self._sun is not None:
            watched_s = self._fleet_watched_s[
                self._solar_positions(at_s, self._sun).astype(np.int32) % FLEET_BUCKETS
            ]
            fleet = FLEET_WORTH * watched_s / (watched_s + self._fleet_doubt_s())
            sure = np.maximum(sure, fleet)
        return sure

    def _smooth_bucket(self, shape: Floats, at_s: float) -> Floats:
        """The value of that time's bucket, with a little of its neighbours', float64[L]."""
        b = self._bucket_at(at_s)
        beside: Floats = shape[:, b - 1] + shape[:, (b + 1) % self.buckets]
        out: Floats = (shape[:, b] + BESIDE * beside) / self._weight
        return out

    def _bucket_at(self, at_s: float) -> int:
        return min(int(at_s % self.day_s / self._bucket_s), self.buckets - 1)

    def _solar_positions(self, at_s: float, sun: Floats) -> Floats:
        """The position of each lane in the fleet's day, in buckets."""
        out: Floats = (at_s % self.day_s / self.day_s + sun) % 1.0 * FLEET_BUCKETS
        return out

    def _fleet_doubt_s(self) -> float:
        return FLEET_DOUBT * self._weight * self.day_s / FLEET_BUCKETS

    def _fleet_rates(self, at_s: float, sun: Floats) -> Floats:
        """The events/s of an average lane on an ordinary day, at each lane's own solar time."""
        doubt_s = self._fleet_doubt_s()
        mean = self._fleet_came.sum() / max(self._fleet_watched_s.sum(), TINY)
        day: Floats = (self._fleet_came + doubt_s * mean) / (self._fleet_watched_s + doubt_s)
        at = self._solar_positions(at_s, sun) - 0.5  # between the middles of two buckets
        low = np.floor(at).astype(np.int32)
        out: Floats = day[low % FLEET_BUCKETS] * (low + 1 - at) + day[(low + 1) % FLEET_BUCKETS] * (
            at - low
        )
        return out

    def _estimate_trend(self) -> tuple[Floats, Floats]:
        """The rate and its growth per second, as far as two means of different memory differ by
        more than noise explains."""
        level, slow = self._level.value(), self._slow.value()
        apart: Floats = level - slow
        noise = TREND_DOUBT * self._noise.value() * self._every_s / (6 * self._level.memory_s)
        real: Floats = apart * np.maximum(0.0, 1 - noise / np.maximum(apart * apart, TINY * TINY))
        return level + real / 2, real / (2 * self._level.memory_s)

    # ---- across restarts ----

    def export_state(self) -> dict[str, Any]:
        """Everything that was learned, as values for JSON: about 3 kB per lane at 288 buckets
        (float32, base64)."""
        return {
            "version": VERSION,
            "lanes": self.lanes,
            "day_s": self.day_s,
            "buckets": self.buckets,
            "at_s": None if math.isnan(self._at_s) else self._at_s,
            "every_s": self._every_s,
            "weight": self._weight,
        } | {
            name: base64.b64encode(array.astype("<f4").tobytes()).decode("ascii")
            for name, array in self._named_arrays()
        }

    def restore_state(self, state: Mapping[str, Any], most_eps: float = MOST_EPS) -> int:
        """Continue from a `state`. A lane whose past has a rate above `most_eps` events/s starts
        without a past, since such a rate is implausible; returns the number of these lanes. Raises
        ValueError, and changes nothing, if it is not the state of a forecast like this one."""
        for name, own in (
            ("version", VERSION),
            ("lanes", self.lanes),
            ("day_s", self.day_s),
            ("buckets", self.buckets),
        ):
            if state.get(name) != own:
                raise ValueError(f"forecast: {name} is {state.get(name)!r}, not {own!r}")
        # Everything is read and checked before the first change.
        read: dict[str, Floats] = {}
        try:
            at_s = math.nan if state["at_s"] is None else float(state["at_s"])
            every_s, weight = float(state["every_s"]), float(state["weight"])
            for name, array in self._named_arrays():
                values = np.frombuffer(
                    base64.b64decode(state[name], validate=True), dtype="<f4"
                ).astype(np.float64)
                read[name] = values.reshape(array.shape)
        except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as e:
            raise ValueError(f"forecast: this is not a valid state: {e}") from e
        sound = all(np.isfinite(values).all() and (values >= 0).all() for values in read.values())
        if not sound or not (0 < every_s < math.inf and 1 <= weight < math.inf):
            raise ValueError(
                "forecast: this is not a valid state: not all of it is finite and from 0"
            )
        poisoned = self._find_implausible(read, most_eps)
        for name, array in self._named_arrays():
            # These are made from all lanes, so one implausible lane spoils them.
            if name.startswith(("fleet_", "share_", "usually_", "today_")):
                array[...] = 0.0 if poisoned.any() else read[name]
            else:
                array[...] = np.where(
                    poisoned[:, None] if array.ndim == 2 else poisoned, 0.0, read[name]
                )
        self._at_s, self._every_s, self._weight = at_s, every_s, weight
        return int(poisoned.sum())

    def _find_implausible(self, read: Mapping[str, Floats], most_eps: float) -> Bools:
        """Which lanes' past has a rate above `most_eps`, bool[L]."""
        most = most_eps * 1.01  # stored values are rounded
        out: Bools = (read["came"] > most * read["watched_s"] + TINY).any(axis=1) | (
            read["before"] > most
        )
        for name in ("ever", "level", "slow"):
            out |= read[f"{name}_num"] > most * read[f"{name}_den"] + TINY
        return out

    def _named_arrays(self) -> Iterator[tuple[str, Floats]]:
        yield from (("came", self._came), ("watched_s", self._watched_s), ("before", self._before))
        yield from (("fleet_came", self._fleet_came), ("fleet_watched_s", self._fleet_watched_s))
        for name in ("ever", "share", "today", "level", "usually", "slow", "noise"):
            mean: _Mean = getattr(self, f"_{name}")
            yield from ((f"{name}_num", mean.num), (f"{name}_den", mean.den))


WAITING = 4_000  # forecasts that are not due yet
MEMORY = 0.999  # the weight that each comparison leaves to the earlier ones


class Foresight:
    """A forecast in use: it compares each forecast with what then arrived, beside the last value
    that was known when the forecast was made. `horizon_s`: how far it looks ahead, on the clock of
    `at_s`. Rates are events/s per lane, float64[L]."""

    def __init__(self, forecast: Forecast, horizon_s: float) -> None:
        self.forecast, self.horizon_s = forecast, horizon_s
        self._made: deque[tuple[float, Floats, Floats]] = deque(maxlen=WAITING)
        self._off = self._off_last = self._came = 0.0

    def observe_rates(self, at_s: float, rate_eps: Floats) -> None:
        """Take the present rates; NaN means unknown."""
        self.forecast.observe_rates(at_s, rate_eps)
        if self._made and at_s < self._made[-1][0] - self.horizon_s:  # the clock stepped back
            self._made.clear()
        while self._made and self._made[0][0] <= at_s:
            due_s, ahead, last = self._made.popleft()
            if at_s - due_s <= self.horizon_s:
                self._note_errors(ahead, last, rate_eps)
        if self.horizon_s > 0:
            self._made.append((at_s + self.horizon_s, self.predict_rates(at_s), rate_eps))

    def set_horizon(self, horizon_s: float) -> None:
        """Look this far ahead from now on; forecasts for another horizon are not compared."""
        if horizon_s != self.horizon_s:
            self.horizon_s = horizon_s
            self._made.clear()

    def predict_rates(self, at_s: float) -> Floats:
        """The rates `horizon_s` after `at_s`; NaN for a lane of which nothing is known yet."""
        return self.forecast.predict_rates(at_s, self.horizon_s)

    def error_shares(self) -> tuple[float, float] | None:
        """The error of the forecasts, and the error that the last value would have had: shares of
        the rate that arrived, summed over the lanes. None until a forecast was due."""
        return (self._off / self._came, self._off_last / self._came) if self._came > 0 else None

    def _note_errors(self, ahead: Floats, last: Floats, came: Floats) -> None:
        known = np.isfinite(ahead) & np.isfinite(last) & np.isfinite(came)
        self._off = self._off * MEMORY + float(np.abs(ahead - came)[known].sum())
        self._off_last = self._off_last * MEMORY + float(np.abs(last - came)[known].sum())
        self._came = self._came * MEMORY + float(came[known].sum())
