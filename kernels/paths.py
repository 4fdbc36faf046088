"""Round-trip times that nobody has measured, from those that were measured: between places in
general (`complete_rtts`), and between Kafka's brokers and the sites of nodes (`complete_paths`).

The RTT of a pair is taken for a line over distance, plus what each of the two places adds to it
(its access network), plus how measured pairs near both ends differ from that. The fewer RTTs were
measured, the less the last two count: what a place adds is held to the usual by a ridge, and the
line's slope to that of most networks. benchmarks/real_rtt.py measures how good it is."""

from __future__ import annotations

import numpy as np

from kernels.geo import haversine_km_matrix
from kernels.tables import MOST_PATH_MS, Bools, Floats, Ints

NEAR_KM = 400.0
"""Within about this distance, places predict one another."""
NEAR_PRIOR = 0.1
"""What pairs nearby say is weighed against nothing known with this weight, in units of pairs at no
distance."""
PLACE_PRIOR = 0.013
"""How firmly what a place adds is held to the usual: as by one RTT of 77 ms (in 1/ms)."""
SLOPE_MS_PER_KM, SLOPE_PRIOR = 0.018, 3e5
"""The slope of most networks, and how firmly it is held: as by three RTTs over 2,000 km (in
km^2/ms)."""
LIGHT_MS_PER_KM = 0.01
"""Light in fibre: no guess is below it."""
START_MS, START_PRIOR = 5.0, 1e-6
"""Where the line begins if no RTT was measured at all."""
SAME_PLACE_MS, LEAST_MS = 1.0, 1.0
"""Within a place that was not measured, and the least between two."""
LEAST_MEASURED_MS = 5.0
"""RTTs below this weigh no more than this one does: their share of error is the machines'."""
STEPS = 6
USUAL_ERRORS = 1.5 * 1.48
"""Errors above this many times the median error count by their size, not by its square (Huber)."""
LEAST_ERROR = 0.05


def complete_rtts(rtt_ms: Floats, km: Floats) -> Floats:
    """The RTTs between C places, all finite, float64[C, C]; what was measured stays as it is.

    `rtt_ms`: symmetric, NaN where not measured, float64[C, C]. `km`: their distances, float64[C,
    C]. Raises ValueError for another shape, and for an RTT below 0, infinite or above
    MOST_PATH_MS."""
    if rtt_ms.ndim != 2 or rtt_ms.shape[0] != rtt_ms.shape[1] or km.shape != rtt_ms.shape:
        raise ValueError(f"rtt_ms is {rtt_ms.shape} and km {km.shape}: both a row per place")
    _check_measured(rtt_ms)
    measured = np.isfinite(rtt_ms)
    known = measured & ~np.eye(len(km), dtype=bool)
    rtt = np.where(known, rtt_ms, 0.0)
    line = _fit_line(rtt, known, km)
    near = np.exp(-km / NEAR_KM)
    off = np.where(known, rtt - line, 0.0)
    line += near @ off @ near / (near @ known.astype(np.float64) @ near + NEAR_PRIOR)
    line = np.clip(np.maximum(line, LIGHT_MS_PER_KM * km), LEAST_MS, MOST_PATH_MS)
    np.fill_diagonal(line, SAME_PLACE_MS)
    return np.where(measured, rtt_ms, line)


def _fit_line(rtt: Floats, known: Bools, km: Floats) -> Floats:
    """start + own of each place + slope * km, fitted to the known pairs by iteratively reweighted
    least squares, float64[C, C]."""
    count = len(km)
    weight = np.where(known, 1.0 / np.maximum(rtt, LEAST_MEASURED_MS), 0.0)
    scale, weights = np.sqrt(weight), weight
    line: Floats = np.zeros_like(km)
    for _ in range(STEPS):
        by_place, far = weights.sum(axis=1), weights * km
        left = np.zeros((count + 2, count + 2))
        left[:count, :count] = weights + np.diag(by_place + PLACE_PRIOR)
        left[:count, count] = left[count, :count] = by_place
        left[:count, -1] = left[-1, :count] = far.sum(axis=1)
        left[count, count] = by_place.sum() / 2 + START_PRIOR
        left[count, -1] = left[-1, count] = far.sum() / 2
        left[-1, -1] = (far * km).sum() / 2 + SLOPE_PRIOR
        right = np.empty(count + 2)
        right[:count] = (weights * rtt).sum(axis=1)
        right[count] = (weights * rtt).sum() / 2 + START_PRIOR * START_MS
        right[-1] = (far * rtt).sum() / 2 + SLOPE_PRIOR * SLOPE_MS_PER_KM
        found = np.linalg.solve(left, right)
        own = found[:count]
        line = found[count] + own[:, None] + own[None, :] + found[-1] * km
        error = np.abs(rtt - line) * scale
        usual = USUAL_ERRORS * max(
            LEAST_ERROR, float(np.median(error[known])) if known.any() else 0
        )
        weights = weight / np.maximum(1.0, error / usual)
    return line


def complete_paths(path_ms: Floats, lat: Floats, lon: Floats, site: Ints) -> Floats:
    """The RTT between each broker and each site, float64[B, S]: measured, or completed; NaN for a
    broker of which nothing is known, neither its site nor any RTT.

    `path_ms`: float64[B, S], NaN where not measured. `lat`, `lon`: of the sites, degrees,
    float64[S]. `site`: row of the broker's site, int32[B]; -1 if it is not known: the broker then
    counts as near to the site with the lowest RTT. Raises ValueError as `complete_rtts` does."""
    brokers, sites = path_ms.shape
    _check_measured(path_ms)
    known = np.isfinite(path_ms)
    apart = np.flatnonzero((site < 0) & known.any(axis=1))
    near = np.where(known, path_ms, np.inf)[apart].argmin(axis=1)
    # The places: all sites, then the brokers whose site is not known.
    place = site.astype(np.intp)
    place[apart] = sites + np.arange(len(apart))
    where = np.concatenate((np.arange(sites), near)).astype(np.intp)
    km = haversine_km_matrix(lat[where], lon[where], lat[where], lon[where])
    table = np.full(km.shape, np.nan)
    for row in np.unique(place[place >= 0]):
        here = path_ms[place == row]
        some = known[place == row].any(axis=0)
        table[row, :sites][some] = np.nanmedian(here[:, some], axis=0)
    # A pair of two brokers' sites may have been measured from both ends.
    both = np.stack((table, table.T))
    count = np.isfinite(both).sum(axis=0)
    table = np.where(count > 0, np.nansum(both, axis=0) / np.maximum(count, 1), np.nan)
    out: Floats = np.full((brokers, sites), np.nan)
    out[place >= 0] = complete_rtts(table, km)[place[place >= 0], :sites]
    return np.where(known, path_ms, out)


def _check_measured(ms: Floats) -> None:
    bad = ~np.isnan(ms) & ~((ms >= 0.0) & (ms <= MOST_PATH_MS))
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"the RTT in row {row}, column {column} is {ms[row, column]}: not a number from 0 to "
            f"{MOST_PATH_MS:g} ms"
        )
