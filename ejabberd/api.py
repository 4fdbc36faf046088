"""ejabberd's admin API over a unix socket, and nothing else: one call, one HTTP request. Who opens the socket is admin.

Commands and their arguments: ejabberd 23.01, modules mod_admin_extra, mod_muc_admin, ejabberd_admin
(https://docs.ejabberd.im/developer/ejabberd-api/admin-api/)."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from pathlib import Path
from typing import Any

from agents.errors import CommandRefused, NoAnswer, NotConnected, XmppError


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class AdminApi:
    """`socket_path`: the server's unix socket. Holds no connection, so that it outlives a restart of the server."""

    def __init__(self, socket_path: Path, timeout_s: float = 10.0) -> None:
        self.socket_path = socket_path
        self.timeout_s = timeout_s
        self._turns: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore, asyncio.Lock] | None = None

    async def call(self, command: str, **arguments: Any) -> Any:  # Any: each command answers JSON of its own
        """Run an API command. An argument named `from` is written `from_`.

        Raises NotConnected (no server), NoAnswer (none within `timeout_s`), CommandRefused (its condition is
        `conflict` for what exists already, else `http-STATUS`)."""
        body = {name.rstrip("_"): value for name, value in arguments.items()}
        async with self._of_this_loop()[0]:
            return await asyncio.to_thread(self._call, command, body)

    def one_at_a_time(self) -> asyncio.Lock:
        """To be held by who needs that no other holder's calls come in between."""
        return self._of_this_loop()[1]

    def _of_this_loop(self) -> tuple[asyncio.Semaphore, asyncio.Lock]:
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = (loop, asyncio.Semaphore(8), asyncio.Lock())
        return self._turns[1:]

    def _call(self, command: str, body: dict[str, Any]) -> Any:
        connection = _UnixConnection(self.socket_path, self.timeout_s)
        try:
            connection.request("POST", f"/api/{command}", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        except TimeoutError as e:
            raise NoAnswer(f"ejabberd did not answer `{command}` within {self.timeout_s:g} s") from e
        except (OSError, http.client.HTTPException) as e:
            raise NotConnected(f"ejabberd's admin API at {self.socket_path} cannot be reached: {e!r}") from e
        finally:
            connection.close()
        try:
            answer = json.loads(text)
        except ValueError as e:
            raise XmppError(f"ejabberd answered `{command}` with no JSON (status {response.status})") from e
        if response.status != http.client.OK:
            condition = "conflict" if response.status == http.client.CONFLICT else f"http-{response.status}"
            reason = answer.get("message", "") if isinstance(answer, dict) else answer
            raise CommandRefused(condition, f"{command}: {reason}")
        return answer
