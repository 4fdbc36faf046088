"""The names and limits of both engines are the same: rules.json has those of the Python engine."""

from __future__ import annotations

import json
from typing import Any

from agents.base.files import PROJECT
from agents.core.lanes import records
from agents.kafka import refusals
from agents.router import stage as router_stage
from agents.worker import stage as worker_stage

RULES = PROJECT / "agents/router/streams/src/main/resources/geolane/router/rules.json"
OF_OTHERS = ("unknown_place", "pipeline_error")
"""Reasons that no router gives."""


def _rules() -> Any:
    return json.loads(RULES.read_text("utf-8"))


def test_headers() -> None:
    headers = _rules()["headers"]
    assert headers == {name: getattr(records, name) for name in headers}
    assert set(headers.values()) == records.OURS
    assert {headers[name] for name in _rules()["kept"]} == records.OURS - router_stage._DROPPED


def test_reasons() -> None:
    assert _rules()["reasons"] == [x.value for x in records.Reason if x.value not in OF_OTHERS]


def test_refusals() -> None:
    assert _rules()["refusals"] == {str(code): words for code, words in refusals._WORDS.items()}


def test_limits() -> None:
    assert _rules()["limits"] == {
        "detail_characters": worker_stage._DETAIL_CHARS,
        "quoted_characters": records._QUOTED,
        "headers_bytes": router_stage._HEADERS_BYTES,
        "record_overhead_bytes": worker_stage._RECORD_OVERHEAD,
        "header_overhead_bytes": worker_stage.record_size(None, None, [("", None)])
        - worker_stage._RECORD_OVERHEAD,
        "dead_bytes": worker_stage._DEAD_BYTES,
        "replays": router_stage._MOST_REPLAYS,
        "source_characters": 249,
        "placed_characters": 60,
        "name_characters": 80,
        "min_ms": records._MIN_MS,
        "max_ms": records._MAX_MS,
        "seconds_from": records._SECONDS_FROM,
        "seconds_to": records._SECONDS_TO,
    }
    assert "{1,249}" in records._SRC.pattern
    assert b"{1,60}" in records._PLACED.pattern
