"""Lanes: what a valid event is, which lane it is in, and which worker may process it."""
