"""Travel times find their destinations in any order, with rounded coordinates, and if some are
missing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.geo.apple.answers import Eta, Location
from agents.geo.apple.maps import TOLERANCE_DEG, match_etas

SPACED = st.lists(
    st.tuples(st.integers(-900, 900), st.integers(-1799, 1800)),
    min_size=1,
    max_size=10,
    unique=True,
)
NOISE = st.floats(-TOLERANCE_DEG / 2, TOLERANCE_DEG / 2)


@given(cells=SPACED, data=st.data())
def test_each_time_is_that_of_its_own_destination(
    cells: list[tuple[int, int]], data: st.DataObject
) -> None:
    destinations = [(lat / 10, lon / 10) for lat, lon in cells]
    there = data.draw(st.permutations(range(len(cells))))
    kept = there[: data.draw(st.integers(0, len(there)))]

    def eta(i: int) -> Eta:
        lat = min(90.0, max(-90.0, destinations[i][0] + data.draw(NOISE)))
        lon = destinations[i][1] + data.draw(NOISE)
        lon = lon - 360 if lon > 180 else lon  # on the other side of the date line
        return Eta(Location(lat, lon), expected_travel_time_seconds=float(i + 1))

    matched = match_etas([eta(i) for i in kept], destinations)
    found = {i: e.expected_travel_time_seconds for i, e in enumerate(matched) if e is not None}
    assert found == {i: float(i + 1) for i in kept}
