"""Pictures for people. agents/core/model/charts.py decides what is drawn; a separate process draws
it."""

from agents.observe.charts.process import Drawing

__all__ = ["Drawing"]
