"""Pictures for people: what is drawn is agents/core/model/charts.py's, drawing is a process of its
own."""

from agents.observe.charts.process import Drawing

__all__ = ["Drawing"]
