"""The QR code of an invitation can be read: from the terminal's characters, whatever its colours,
and from the file."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pytest
import zxingcpp

from agents.admin.members.invitation import draw_modules, qr_modules, room_link

LINKS = {
    "ops@conference.example.org": "xmpp:ops@conference.example.org?join",
    "the fleet@conference.example.org": "xmpp:the%20fleet@conference.example.org?join",
}
_ABOVE, _BELOW = "▀█", "▄█"


def _picture(lines: list[str]) -> npt.NDArray[np.uint8]:
    """As a terminal shows them, a character being two modules; 8 pixels a module."""
    rows = []
    for line in lines:
        text = re.sub(r"\x1b\[[\d;]*m", "", line)
        rows += [[c in _ABOVE for c in text], [c in _BELOW for c in text]]
    dark = np.array(rows)
    return np.where(dark.repeat(8, axis=0).repeat(8, axis=1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("room", LINKS)
def test_the_code_on_a_terminal_can_be_read(room: str) -> None:
    lines = list(draw_modules(qr_modules(room_link(room))))
    [code] = zxingcpp.read_barcodes(_picture(lines))
    assert code.text == LINKS[room]
    assert all(line.startswith("\x1b[30;107m") and line.endswith("\x1b[0m") for line in lines), (
        "black on white"
    )


def test_it_fits_a_terminal_of_80_by_24() -> None:
    lines = [
        re.sub(r"\x1b\[[\d;]*m", "", line)
        for line in draw_modules(qr_modules(room_link("ops@conference.etl.example.org")))
    ]
    assert (len(lines) <= 24, max(map(len, lines)) <= 80) == (True, True)
