"""Pictures for people: what is drawn is agents/core/pictures.py's, drawing is a process of its own."""

from agents.pictures.process import Drawing

__all__ = ["Drawing"]
