"""Decisions as they were made: what went into each plan and what came out, kept exactly, made again, and made otherwise."""
