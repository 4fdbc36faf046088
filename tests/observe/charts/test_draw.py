"""Pictures are PNGs of the size of a phone's screen, of whatever is asked; what cannot be drawn is
told."""

from __future__ import annotations

import asyncio
import struct

import pytest

from agents.base.errors import PictureError
from agents.core.model.charts import Dot, Line, Map, Plot, Ring, Thread
from agents.observe.charts import Drawing, draw, process

SIZE = (1080, 720)


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(process.PNG)
    width, height = struct.unpack(">II", png[16:24])
    return width, height


async def test_a_map_of_the_world_and_one_of_a_single_place() -> None:
    drawing = Drawing()
    dots = tuple(
        Dot(f"s{i}", -60.0 + 12 * i, -170.0 + 34 * i, 0.1 * i, 2, i % 3) for i in range(11)
    )
    wide = await drawing.draw_png(
        Map("everywhere", dots, (Thread(10.0, 20.0, 3, 5.0), Thread(-30.0, 150.0, -1, 0.0)))
    )
    near = await drawing.draw_png(Map("here", (Dot("a", 50.0, 8.0, 0.0, 1, 1),), ()))
    assert size(wide) == size(near) == SIZE
    assert wide != near


async def test_a_hotspot_is_a_ring_and_has_its_name() -> None:
    drawing, dots = Drawing(), (Dot("iad", 39.0, -77.5, 0.3, 2, 2),)
    bare = await drawing.draw_png(Map("here", dots, ()))
    ring = await drawing.draw_png(Map("here", dots, (), (Ring("Dallas, US x6.8", 32.8, -97.0),)))
    assert size(ring) == SIZE
    assert ring != bare


def test_a_plot_of_zeros_has_an_axis_from_zero_up() -> None:
    flat = Plot("Lag", "events", 0, 60_000, (Line("the fleet", (0, 60_000), (0.0, 0.0)),), "d")
    (axes,) = draw.draw_plot(flat).axes
    assert axes.get_ylim() == (0, 1)
    assert [t for t in axes.get_yticks() if 0 <= t <= 1] == [0, 1]
    assert axes.get_xlabel() == "UTC · d"
    (line,) = axes.get_lines()
    assert not line.get_clip_on(), "it is on the axis, and must be seen"


def test_a_map_has_its_fleet_its_time_and_what_its_signs_mean() -> None:
    dots = (Dot("iad", 39.0, -77.5, 0.3, 2, 2), Dot("sfo", 37.7, -122.4, 0.9, 1, 1))
    threads = (Thread(34.0, -84.0, 0, 5.0),)
    figure = draw.draw_map(Map("calm", dots, threads, (), "example.org", 1_764_000_000_000))
    assert figure.axes[0].get_xlabel() == "example.org · 24 Nov 2025, 16:00 UTC"
    (legend,) = figure.legends
    said = [text.get_text() for text in legend.get_texts()]
    assert said == ["site, load below 60%", "85% or more", "a lane's origin, and its site"]
    gone = (Dot("iad", 39.0, -77.5, 0.0, 1, 0),)
    lost = (Thread(34.0, -84.0, -1, 0.0),)
    figure = draw.draw_map(Map("worse", gone, lost, (Ring("Dallas", 32.8, -97.0),)))
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["no node takes lanes", "a lane without owner", "a hotspot"]


async def test_a_plot_of_one_point_and_of_many_lines_at_once() -> None:
    drawing = Drawing()
    one = Plot("Lag", "events", 0, 60_000, (Line("lane 3", (1000,), (5.0,)),))
    many = Plot(
        "Lag",
        "events",
        0,
        7200_000,
        tuple(Line(f"lane {n}", (0, 3_600_000), (1.0, float(n))) for n in range(9)),
    )
    assert [
        size(x) for x in await asyncio.gather(drawing.draw_png(one), drawing.draw_png(many))
    ] == [
        SIZE,
        SIZE,
    ]


async def test_what_cannot_be_drawn_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = Drawing()
    with pytest.raises(PictureError, match="could not be drawn: "):
        await drawing.draw_png(Plot("nothing", "x", 2**60, 2**61, ()))
    monkeypatch.setattr(process, "DRAW_S", 0.05)
    with pytest.raises(PictureError, match="not drawn within"):
        await drawing.draw_png(Map("late", (), ()))
