"""Cuts the repository's week of flights out of the source's three months; run once, by hand (extra
`data`).

python -m agents.local.demo.cut_flights SHARED_DATA
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import sys
from pathlib import Path

FIRST, LAST = dt.datetime(2001, 1, 8), dt.datetime(2001, 1, 14)
HERE = Path(__file__).parent / "data"


def read_week(parquet: Path) -> list[tuple[str, str, str, int, int]]:
    """The week's flights by time: minute (UTC), origin, destination, delay (min), distance (statute
    miles)."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(parquet)
    utc = table["utc"]
    week = table.filter(
        pc.and_(pc.greater_equal(utc, FIRST), pc.less(utc, LAST + dt.timedelta(days=1)))
    )
    return [
        (
            r["utc"].strftime("%Y-%m-%dT%H:%M"),
            r["origin"],
            r["destination"],
            r["delay"],
            r["distance"],
        )
        for r in week.to_pylist()
    ]


def main(shared: Path) -> None:
    flights = read_week(shared / "events" / "flights-2001-01_03-utc.parquet")
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(("utc", "origin", "destination", "delay_min", "distance_mi"))
    out.writerows(flights)
    # Without name and time in the gzip header, the same input gives the same bytes.
    packed = gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0)
    (HERE / "flights-2001-01-08_14.csv.gz").write_bytes(packed)
    used = {airport for row in flights for airport in row[1:3]}
    with (shared / "events" / "flights-airports.csv").open(encoding="utf-8", newline="") as source:
        airports = [row for row in csv.DictReader(source) if row["iata"] in used]
    with (HERE / "airports.csv").open("w", encoding="utf-8", newline="") as target:
        kept = csv.DictWriter(
            target, ("iata", "city", "lat", "lon"), extrasaction="ignore", lineterminator="\n"
        )
        kept.writeheader()
        for row in airports:
            city = ", ".join(part for part in (row["city"], row["state"]) if part)
            kept.writerow(
                {
                    **row,
                    "city": city,
                    "lat": f"{float(row['lat']):.5f}",
                    "lon": f"{float(row['lon']):.5f}",
                }
            )
    print(f"{len(flights)} flights, {len(airports)} of {len(used)} airports, {len(packed)} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
