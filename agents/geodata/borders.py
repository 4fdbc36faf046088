"""Outlines of countries, for orientation on a map."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import numpy as np

from kernels.tables import Floats

BORDERS = Path(__file__).with_name("countries.json.gz")


def read_borders() -> list[Floats]:
    """Closed lines, float64[N, 2]: longitude and latitude in degrees, accurate to about 0.1
    degrees. For orientation, not for measuring."""
    rings = msgspec.json.decode(gzip.decompress(BORDERS.read_bytes()), type=list[list[float]])
    return [np.array(ring, dtype=np.float64).reshape(-1, 2) for ring in rings]
