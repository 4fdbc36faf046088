"""How Python itself is set in a worker, where one thread computes while another keeps two servers waiting."""

from __future__ import annotations

import gc
import sys

YOUNG = 50_000
SWITCH_S = 0.0005


def tune_interpreter() -> None:
    """Fewer collections, quicker turns between threads; for the whole process.

    A batch makes tens of thousands of objects and no cycles: collecting after 50,000 instead of 700 took the flights
    pipeline from 17 us of CPU per event to 13. The event loop gets its turn within 0.5 ms instead of 5 while the
    pipeline computes: fetches and commits wait less."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
    sys.setswitchinterval(SWITCH_S)
