"""Reads an RTT table: measured milliseconds by pair of regions, and the fitted line `a + b * km`
for pairs that were not measured."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np

from agents.base.errors import SettingsError, system_reason
from agents.base.files import decode_utf8, read_whole_file
from kernels import RttModel
from kernels.geo import haversine_km_matrix, is_on_earth
from kernels.tables import Bools, Floats

RTT_TABLE = Path(__file__).with_name("azure_rtt_ms.csv")
"""The default table: twelve North American regions of Azure."""

SAME_REGION_MS = 1.0
"""Round trip within one region if the table's diagonal is blank."""

COLUMNS = ["region", "lat", "lon"]


def read_rtt(path: Path = RTT_TABLE) -> RttModel:
    """Read the table at `path`: a CSV with the columns region, lat, lon, and one for each region,
    in the order of the rows.

    A cell is the milliseconds from the row's region to the column's. A blank on the diagonal is
    1 ms; any other blank pair was not measured and gets its value from the fitted line. Raises
    SettingsError, which names the file and the region or cell."""
    try:
        text = decode_utf8(read_whole_file(path), path)
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except (OSError, csv.Error) as e:
        why = system_reason(e) if isinstance(e, OSError) else e
        raise SettingsError(f"{path}: the RTT table cannot be read ({why})") from e
    if not rows or rows[0][:3] != COLUMNS:
        raise SettingsError(
            f"{path}: the first line must be region,lat,lon and then the regions' names"
        )
    regions = tuple(row[0] for row in rows[1:])
    if tuple(rows[0][3:]) != regions:
        raise SettingsError(
            f"{path}: the columns after lat,lon must be the rows' regions in the same order"
        )
    if len(set(regions)) != len(regions) or not all(regions):
        raise SettingsError(f"{path}: a region has no name, or is listed twice")
    lat, lon = np.empty(len(regions)), np.empty(len(regions))
    rtt_ms = np.full((len(regions), len(regions)), np.nan)
    for i, row in enumerate(rows[1:]):
        where = f"{path}: {regions[i]}"
        if len(row) != len(rows[0]):
            raise SettingsError(f"{where}: {len(row)} columns, the first line has {len(rows[0])}")
        lat[i], lon[i] = (
            _parse_number(cell, f"{where}: {name}")
            for cell, name in zip(row[1:3], COLUMNS[1:], strict=True)
        )
        if not is_on_earth(lat[i], lon[i]):
            raise SettingsError(f"{where}: lat {row[1]}, lon {row[2]} is not a valid position")
        for j, cell in enumerate(row[3:]):
            if cell.strip():
                rtt_ms[i, j] = _parse_number(cell, f"{where} to {regions[j]}", above=0.0)
    return _fit_model(path, regions, lat, lon, rtt_ms)


def _parse_number(cell: str, where: str, above: float = -math.inf) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= above:
        raise SettingsError(f"{where}: {cell!r} is not a {'positive ' if above == 0 else ''}number")
    return value


def _fit_model(
    path: Path, regions: tuple[str, ...], lat: Floats, lon: Floats, rtt_ms: Floats
) -> RttModel:
    km = haversine_km_matrix(lat, lon, lat, lon)
    measured: Bools = np.isfinite(rtt_ms)
    pairs = measured & ~np.eye(len(regions), dtype=bool)
    if len(np.unique(km[pairs].round(3))) < 2:
        raise SettingsError(
            f"{path}: too few measured pairs to fit RTT over km: give at least three regions"
        )
    a_ms, b_ms_per_km = _fit_line(km[pairs], rtt_ms[pairs])
    if b_ms_per_km <= 0:
        raise SettingsError(
            f"{path}: RTT does not grow with distance here; check that rows, columns and "
            "coordinates match"
        )
    filled: Floats = np.where(measured, rtt_ms, a_ms + b_ms_per_km * km)
    blank = np.flatnonzero(~np.diag(measured))
    filled[blank, blank] = SAME_REGION_MS
    return RttModel(regions, lat, lon, filled, measured, a_ms, b_ms_per_km)


def _fit_line(km: Floats, rtt_ms: Floats) -> tuple[float, float]:
    """Fit rtt = a + b km by least squares. A round trip cannot take less than 0 ms, so a line that
    begins below 0 is fitted through 0 instead."""
    b, a = np.polyfit(km, rtt_ms, 1)
    if a < 0:
        return 0.0, float((km @ rtt_ms) / (km @ km))
    return float(a), float(b)
