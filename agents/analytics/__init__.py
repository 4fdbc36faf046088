"""Streaming analytics: the hotspots of the lanes."""
