"""`geolane invite`: makes a person's account and place in the ops room, and prints the link to it
(XEP-0147) and a QR code.

ejabberd 23.01 does not support invitations (XEP-0401), so the account is made here. The password is
written to a file and never printed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import segno

from agents.admin.members.request import MemberRequest
from agents.base.errors import SettingsError
from agents.base.progress import PrintLine
from ejabberd.api import api_from_settings
from ejabberd.provision import Person, add_person

QUIET = 4
"""Light modules around the code (ISO/IEC 18004, 6.3.8)."""
_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_BLACK_ON_WHITE, _RESET = "\x1b[30;107m", "\x1b[0m"


def room_link(room: str) -> str:
    """`xmpp:ops@conference.example.org?join`."""
    return f"xmpp:{quote(room, safe='@')}?join"


def qr_modules(text: str) -> list[list[bool]]:
    """The QR code of `text` with its quiet zone, row by row; True is dark."""
    return [
        [bool(m) for m in row] for row in segno.make_qr(text, error="m").matrix_iter(border=QUIET)
    ]


def draw_modules(rows: Sequence[Sequence[bool]]) -> Iterator[str]:
    """Two rows of modules per line, black on white whatever the terminal's colours are."""
    for i in range(0, len(rows), 2):
        below = rows[i + 1] if i + 1 < len(rows) else [False] * len(rows[i])
        yield (
            _BLACK_ON_WHITE
            + "".join(_BLOCKS[pair] for pair in zip(rows[i], below, strict=True))
            + _RESET
        )


async def run(
    asked: MemberRequest,
    name: str,
    role: Literal["member", "admin", "owner"] | None,
    png: Path | None,
    say: PrintLine,
    *,
    terminal: bool,
    reset: bool = False,
) -> None:
    """Make the account, then print how to join, with the QR code if `terminal`; also write it to
    `png` if given. `role`: also changes that of a person who has one; None: member, or as it is.

    Raises SettingsError (name, files, or an account that was not made here, without `reset`),
    XmppError."""
    xmpp = asked.settings.xmpp
    await asyncio.to_thread(asked.make_secrets)
    await add_person(
        api_from_settings(asked.settings),
        xmpp.domain,
        Person(name, role or "member"),
        asked.secrets,
        lambda did, what: say(f"{did}: {what}"),
        reset=reset,
        change_role=role is not None,
    )
    address = room_link(xmpp.room)
    say(f"account:  {name}@{xmpp.domain}")
    say(f"password: in {asked.secrets / name}; hand it over in private, never in the room")
    say(f"server:   {xmpp.host}:{xmpp.port}, if the client does not find it by itself")
    say(f"room:     {address}  (log in first; write !help there)")
    say(f"bot:      {xmpp.coordinator} one to one; {xmpp.coordinator}/leader for forms")
    if terminal:
        for line in draw_modules(qr_modules(address)):
            say(line)
    if png is not None:
        try:
            await asyncio.to_thread(
                segno.make_qr(address, error="m").save, str(png), kind="png", scale=8, border=QUIET
            )
        except OSError as e:
            raise SettingsError(f"{png}: cannot be written ({e.strerror})") from e
        say(f"QR code:  {png}")
