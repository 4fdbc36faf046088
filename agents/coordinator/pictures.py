"""Draws what the core wants shown and puts it where people's clients can have it."""

from __future__ import annotations

from agents.core.operators.looks import Drawn, MapWanted, PlotWanted, plot_of
from agents.core.pictures import Picture, Plot
from agents.journal import Journal
from agents.pictures import Drawing
from agents.xmpp.coordinator import CoordinatorLink


class Pictures:
    def __init__(self, journal: Journal, link: CoordinatorLink) -> None:
        self._journal, self._link, self._drawing = journal, link, Drawing()

    async def map(self, wanted: MapWanted) -> Drawn:
        """Raises PictureError, XmppError."""
        return await self._shown("map.png", wanted.map)

    async def plot(self, wanted: PlotWanted) -> Drawn:
        """Raises PictureError, XmppError, JournalError; OperatorError where there is nothing to draw."""
        column, span = wanted.measure.column, (wanted.since_ms, wanted.until_ms)
        worst = await self._journal.worst(column, wanted.worst, *span) if wanted.worst else []
        lines = await self._journal.lines(column, [*wanted.names, *worst], *span)
        return await self._shown("plot.png", plot_of(wanted, lines))

    async def _shown(self, name: str, picture: Picture) -> Drawn:
        url = await self._link.upload(name, await self._drawing.png(picture), "image/png")
        return Drawn(url, picture if isinstance(picture, Plot) else None)
