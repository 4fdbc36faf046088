"""Uploads files for people's clients: XMPP gives the slot, HTTP takes the file (XEP-0363)."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from agents.base import http_client
from agents.base.errors import CommandRefused, NoAnswer, NotConnected
from agents.xmpp.client import Session
from agents.xmpp.stream import tls_context
from plugins import upload as stanzas
from plugins.values import BadStanza

PUT_S = 10.0


class Uploads:
    """Uses the upload service of `domain`, which it discovers once. `ca_file`: verifies the
    service's certificate."""

    def __init__(self, session: Session, domain: str, ca_file: str) -> None:
        self._session, self._domain, self._ca_file = session, domain, ca_file
        self._service = ""
        self._most: int | None = None

    async def upload_file(self, name: str, content: bytes, content_type: str) -> str:
        """Upload a file and return its download URL. Raises NotConnected, NoAnswer, CommandRefused
        (no such service, file too large)."""
        service = await self._find_service()
        if self._most is not None and len(content) > self._most:
            raise CommandRefused(
                "not-acceptable",
                f"{service} takes {self._most:,} bytes, {name} has {len(content):,}",
            )
        request = stanzas.make_slot_request(
            self._session.make_iq("get", service), name, len(content), content_type
        )
        try:
            slot = stanzas.slot_from_result(await self._session.send_request(request))
        except BadStanza as e:
            raise NoAnswer(f"{service}: its slot cannot be read ({e})") from None
        await self._put_file(slot, content, content_type)
        return slot.get

    async def _find_service(self) -> str:
        if not self._service:
            items = await self._session.send_request(
                stanzas.make_items_request(self._session.make_iq("get", self._domain))
            )
            for jid in stanzas.services_from_result(items):
                try:
                    info = await self._session.send_request(
                        stanzas.make_info_request(self._session.make_iq("get", jid))
                    )
                except (CommandRefused, NoAnswer):
                    continue  # not the upload service, or it is down
                if stanzas.is_upload_service(info):
                    self._most = stanzas.max_file_bytes_from_result(info)
                    self._service = jid
                    break
            else:
                raise CommandRefused(
                    "item-not-found",
                    f"{self._domain} has no HTTP upload (XEP-0363): ejabberd's mod_http_upload "
                    "provides it",
                )
        return self._service

    async def _put_file(self, slot: stanzas.Slot, content: bytes, content_type: str) -> None:
        host = urlsplit(slot.put).hostname or ""
        headers = {**dict(slot.headers), "Content-Type": content_type}
        tls = await asyncio.to_thread(tls_context, self._ca_file)
        try:
            response = await http_client.request(
                "PUT",
                slot.put,
                timeout_s=PUT_S,
                tls=tls,
                read=False,
                headers=headers,
                content=content,
            )
        # ValueError: a header that HTTP does not allow.
        except (*http_client.FAILURES, ValueError) as e:
            raise NotConnected(f"{host}: the upload failed ({http_client.cause(e)})") from e
        if (status := response.status_code) not in (200, 201):
            raise CommandRefused("not-allowed", f"{host} refused the upload: HTTP {status}")
