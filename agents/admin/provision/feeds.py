"""Checks that the feeds exist, as the coordinator's account sees them. The admin API makes them but
does not report whether that worked."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex

import msgspec

from agents import settings
from agents.base.errors import XmppError
from agents.xmpp.client import Handlers, Login, Session
from ejabberd import feeds

_ITEMS = "http://jabber.org/protocol/disco#items"


async def check_feeds(xmpp: settings.Xmpp, secrets: Path, workers: Sequence[str]) -> None:
    """Log in as `geolane` (without presence, so that nobody sees it) and look for the feeds.

    Raises NotConnected, SettingsError, XmppError."""
    # Use the password that was just made, however the processes will later prove who they are.
    own = msgspec.structs.replace(
        xmpp, password_file=str(secrets / "geolane"), sasl="SCRAM", cert_file=""
    )
    # A name of its own, as the doctor has: the server refuses a second session of the same name.
    jid = f"{xmpp.coordinator}/provision-{token_hex(4)}"
    async with Session(Login(own, jid), Handlers()) as session:
        iq = session.make_iq("get", xmpp.pubsub)
        iq.xml.append(ET.Element(f"{{{_ITEMS}}}query"))
        answer = await session.send_request(iq)
    found = {item.get("node", "") for item in answer.xml.iter(f"{{{_ITEMS}}}item")}
    wanted = {
        f.name for f in (feeds.TUNING, *feeds.OPERATOR_FEEDS, *map(feeds.telemetry_feed, workers))
    }
    if missing := sorted(wanted - found):
        raise XmppError(
            f"{xmpp.pubsub}: {len(missing)} feeds could not be created, such as {missing[0]}: "
            f"check that mod_pubsub there lets {xmpp.coordinator} create nodes "
            "(access_createnode), with the plugin flat (ejabberd/own.yml)"
        )
