"""Whole records of any kind through a live stack: each comes out once, as what it has to become; no
process ends and no lane stops. The long run is `make fuzz-records`."""

from __future__ import annotations

import pytest

from tests.once import NotOnceError
from tests.record_fuzz.cases import PIPELINE as SOURCE
from tests.record_fuzz.drive import Fuzz, Run
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

PIPELINE = SOURCE


async def test_any_record_comes_out_once_and_nobody_stops(running: Running) -> None:
    result = await Fuzz(running, Run(seed=7, records=4_000)).go()
    if result["missing"] or result["duplicates"]:
        raise NotOnceError(result)
    assert result["ok"], result
    assert result["in"] == sum(
        int(str(result[k])) for k in ("clean", "filtered", "dead", "unplaced")
    )
