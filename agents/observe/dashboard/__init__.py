"""The live view of a fleet: turns the operator feeds into figures, and figures into text, for a
terminal or a log."""
