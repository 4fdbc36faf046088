"""Which settings can be tuned while the fleet runs (core/tuning.py), with the limits and defaults that stand in tables.py."""

from __future__ import annotations

from typing import Annotated, get_args, get_origin

from agents.core.tuning import CALM_NAMES, WORKER_NAMES, Tunable
from agents.settings.about import hints, meta_of
from agents.settings.tables import CalmKeys, Settings, Worker


def tunables(settings: Settings) -> dict[str, Tunable]:
    """By name."""
    calm, worker = settings.coordinator.calm, settings.worker
    found = {name: _one(Worker, name, getattr(worker, name)) for name in WORKER_NAMES}
    return found | {name: _one(CalmKeys, name, getattr(calm, name)) for name in CALM_NAMES}


def _one(table: type, name: str, default: float) -> Tunable:
    hint = hints(table)[name]
    meta = meta_of(hint)
    extra = meta.extra or {}
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    low = meta.gt if meta.gt is not None else meta.ge
    return Tunable(
        name,
        default,
        str(extra.get("unit", "")),
        meta.description or "",
        kind is int,
        low,
        meta.le,
        meta.gt is not None,
    )
