"""The live view of a fleet: what the operator feeds say, as figures, and figures as text, on a
terminal or in a log."""
