"""ejabberd's admin API, and nothing else: one call, one HTTP request. Over the unix socket who opens it is admin;
over HTTPS (ejabberd/https.py) an account and its password say who asks.

Commands, their arguments and answers: as in ejabberd 23.01, modules mod_admin_extra, mod_muc_admin, ejabberd_admin
(https://docs.ejabberd.im/developer/ejabberd-api/admin-api/). Since 24.02 the API has versions, and its version 0 is that
(https://docs.ejabberd.im/developer/ejabberd-api/api_versioning/): it is asked for by name, which 23.01 does not understand."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from pathlib import Path
from typing import Any

from agents.errors import CommandRefused, NoAnswer, NotConnected, XmppError

_OK, _BAD_REQUEST, _CONFLICT = 200, 400, 409


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
        self.account = ""  # the JID that asks, where one does
        self.timeout_s = timeout_s
        self._version: str | None = None  # what goes behind a command's name; None: not known yet
        self._turns: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore, asyncio.Lock] | None = None

    async def call(self, command: str, **arguments: Any) -> Any:  # Any: each command answers JSON of its own
        """Run an API command, of any version of ejabberd since 23.01. An argument named `from` is written `from_`.

        Raises NotConnected (no server), NoAnswer (none within `timeout_s`), CommandRefused (its condition is
        `conflict` for what exists already, else `http-STATUS`)."""
        body = {name.rstrip("_"): value for name, value in arguments.items()}
        async with self._of_this_loop()[0]:
            return await asyncio.to_thread(self._call_versioned, command, body)

    def one_at_a_time(self) -> asyncio.Lock:
        """To be held by who needs that no other holder's calls come in between."""
        return self._of_this_loop()[1]

    def _of_this_loop(self) -> tuple[asyncio.Semaphore, asyncio.Lock]:
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = (loop, asyncio.Semaphore(8), asyncio.Lock())
        return self._turns[1:]

    @property
    def where(self) -> str:
        """What is asked, for people."""
        return str(self.socket_path)

    def _connection(self) -> http.client.HTTPConnection:
        return _UnixConnection(self.socket_path, self.timeout_s)

    def _headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json"}

    def _path(self, command: str) -> str:
        return f"/api/{command}"

    def _lost(self, error: Exception) -> XmppError:
        """What is to be said of a connection that could not be made, or broke."""
        return NotConnected(f"ejabberd's admin API at {self.where} cannot be reached: {error!r}")

    def _refused(self, command: str, status: int, reason: str) -> CommandRefused:
        return CommandRefused("conflict" if status == _CONFLICT else f"http-{status}", f"{command}: {reason}")

    def _call_versioned(self, command: str, body: dict[str, Any]) -> Any:
        if self._version is None:
            try:
                self._call("status/v0", {})
                self._version = "/v0"
            except CommandRefused as e:
                if e.condition != f"http-{_BAD_REQUEST}":
                    raise
                self._version = ""  # before 24.02
        return self._call(command + self._version, body)

    def _call(self, command: str, body: dict[str, Any]) -> Any:
        connection = self._connection()
        path, command = self._path(command), command.partition("/")[0]
        try:
            connection.request("POST", path, json.dumps(body), self._headers())
            response = connection.getresponse()
            text = response.read()
        except TimeoutError as e:
            raise NoAnswer(f"ejabberd did not answer `{command}` within {self.timeout_s:g} s") from e
        except (OSError, http.client.HTTPException) as e:
            raise self._lost(e) from e
        finally:
            connection.close()
        try:
            answer = json.loads(text)
        except ValueError as e:
            if response.status != _OK:
                raise self._refused(command, response.status, response.reason) from e
            raise XmppError(f"ejabberd answered `{command}` with no JSON (status {response.status})") from e
        if response.status != _OK:
            reason = answer.get("message", "") if isinstance(answer, dict) else answer
            raise self._refused(command, response.status, str(reason))
        return answer
