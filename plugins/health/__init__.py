"""Presence is health: `<node/>` in a worker's presence."""

from plugins.health.stanza import (
    WORKER_RESOURCE,
    NodeStanza,
    announcement_from_presence,
    fill_presence,
    worker_from_jid,
)

__all__ = [
    "WORKER_RESOURCE",
    "NodeStanza",
    "announcement_from_presence",
    "fill_presence",
    "worker_from_jid",
]
