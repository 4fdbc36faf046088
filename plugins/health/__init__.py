"""Presence is health: `<node/>` in a worker's presence."""

from plugins.health.stanza import WORKER_RESOURCE, NodeStanza, announcement, presence_of, worker_of

__all__ = ["WORKER_RESOURCE", "NodeStanza", "announcement", "presence_of", "worker_of"]
