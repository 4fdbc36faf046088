"""Areas: the coarser H3 cells in which a city is one hotspot and not nine cells."""

from __future__ import annotations

from functools import lru_cache

from h3.api import basic_str

AREA_RESOLUTION = 3
"""About 60 km from the centre to a corner: a city with its surroundings."""


@lru_cache(maxsize=50_000)
def area_of(cell: str) -> str:
    """The area of a cell; the cell itself if it is as coarse. Raises ValueError for what is not a
    cell."""
    if basic_str.get_resolution(cell) <= AREA_RESOLUTION:
        return cell
    return str(basic_str.cell_to_parent(cell, AREA_RESOLUTION))


@lru_cache(maxsize=5_000)
def areas_around(area: str) -> frozenset[str]:
    """The area and its neighbours: 7, or 6 at a pentagon. Raises ValueError as `area_of`."""
    return frozenset(basic_str.grid_disk(area, 1))
