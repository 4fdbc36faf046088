"""The settings that `geolane up` starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.local.demo import flights
from agents.local.up import UpOptions
from agents.settings import PASS_THROUGH

OWN = "mine:pipeline"


@pytest.mark.parametrize(
    ("given", "pipeline"),
    [
        ({}, flights.PIPELINE),
        ({"no_replay": True}, PASS_THROUGH),
        ({"stream": Path("mine.jsonl")}, PASS_THROUGH),
        ({"pipeline": OWN}, OWN),
        ({"stream": Path("mine.jsonl"), "pipeline": OWN}, OWN),
        ({"sets": (f"worker.pipeline={OWN}",)}, OWN),
        ({"sets": (f"worker.pipeline={PASS_THROUGH}",)}, PASS_THROUGH),
    ],
)
def test_only_the_replayed_flights_get_the_pipeline_that_knows_flights(
    given: dict[str, Any], pipeline: str
) -> None:
    options = UpOptions.from_options(given)
    assert options.read_base_settings().worker.pipeline == pipeline
