"""Finds cells whose rate rises above their own baseline by more than chance explains
(docs/hotspots.md)."""
