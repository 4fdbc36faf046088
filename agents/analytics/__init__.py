"""Streaming analytics over the lanes."""
