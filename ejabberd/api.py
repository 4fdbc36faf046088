"""ejabberd's admin API: each call is one HTTP request. Over the unix socket, anyone who can open it
is admin. Over HTTPS, each request carries an account's name and password (basic authentication);
plain HTTP is for loopback only. A refusal says what to change, and where.

Commands, arguments and answers are those of ejabberd 23.01, modules mod_admin_extra, mod_muc_admin,
ejabberd_admin (https://docs.ejabberd.im/developer/ejabberd-api/admin-api/). Since 24.02 the API has
versions, and version 0 is that API
(https://docs.ejabberd.im/developer/ejabberd-api/api_versioning/). It must be requested by name,
which 23.01 does not understand."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents import settings
from agents.base import http_client
from agents.base.errors import CommandRefused, NoAnswer, NotConnected, SettingsError, XmppError
from agents.base.tls import verifying_context

_OK, _BAD_REQUEST, _CONFLICT = 200, 400, 409
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


class AdminApi:
    """`socket_path`: the server's unix socket. It holds no connection, so it outlives a restart of
    the server."""

    def __init__(self, socket_path: Path, timeout_s: float = 10.0) -> None:
        self.socket_path = socket_path
        self.account = ""  # the JID that makes the requests, if there is one
        self.timeout_s = timeout_s
        self._url = "http://localhost/api"
        # Arguments of `http_client.request`.
        self._way: dict[str, Any] = {"unix_socket": str(socket_path)}
        self._version: str | None = None  # appended to a command's name; None: not known yet
        self._turns: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore, asyncio.Lock] | None = None

    async def call(
        self, command: str, **arguments: Any
    ) -> Any:  # Any: each command has its own JSON answer
        """Run an API command, on any version of ejabberd since 23.01. Write an argument named
        `from` as `from_`.

        Raises NotConnected (no server), NoAnswer (none within `timeout_s`), CommandRefused (with
        the condition `conflict` for what exists already, otherwise `http-STATUS`)."""
        body = {name.rstrip("_"): value for name, value in arguments.items()}
        async with self._turns_of_this_loop()[0]:
            return await self._call_versioned(command, body)

    def one_at_a_time(self) -> asyncio.Lock:
        """A lock to hold while no other holder's calls may come in between."""
        return self._turns_of_this_loop()[1]

    def _turns_of_this_loop(self) -> tuple[asyncio.Semaphore, asyncio.Lock]:
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = (loop, asyncio.Semaphore(8), asyncio.Lock())
        return self._turns[1:]

    @property
    def where(self) -> str:
        """The API's address, for people."""
        return str(self.socket_path)

    def _connection_error(self, error: BaseException) -> XmppError:
        """The error for a connection that could not be made, or broke."""
        return NotConnected(f"ejabberd's admin API at {self.where} cannot be reached: {error!r}")

    def _refusal_error(self, command: str, status: int, reason: str) -> CommandRefused:
        return CommandRefused(
            "conflict" if status == _CONFLICT else f"http-{status}", f"{command}: {reason}"
        )

    async def _call_versioned(self, command: str, body: dict[str, Any]) -> Any:
        if self._version is None:
            try:
                await self._post_call("status/v0", {})
                self._version = "/v0"
            except CommandRefused as e:
                if e.condition != f"http-{_BAD_REQUEST}":
                    raise
                self._version = ""  # before 24.02
        return await self._post_call(command + self._version, body)

    async def _post_call(self, command: str, body: dict[str, Any]) -> Any:
        path, command = command, command.partition("/")[0]
        try:
            response = await http_client.request(
                "POST", f"{self._url}/{path}", timeout_s=self.timeout_s, json=body, **self._way
            )
        except http_client.TimedOut as e:
            raise NoAnswer(
                f"ejabberd did not answer `{command}` within {self.timeout_s:g} s"
            ) from e
        except http_client.FAILURES as e:
            raise self._connection_error(http_client.cause(e)) from e
        status = response.status_code
        try:
            answer = response.json()
        except ValueError as e:
            if status != _OK:
                raise self._refusal_error(command, status, response.reason_phrase) from e
            raise XmppError(
                f"ejabberd answered `{command}` with something other than JSON (status {status})"
            ) from e
        if status != _OK:
            reason = answer.get("message", "") if isinstance(answer, dict) else answer
            raise self._refusal_error(command, status, str(reason))
        return answer


# Over HTTPS.


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url`: https://HOST:PORT/api. `user`: a JID. `password_from`: where the password comes from,
    for people."""

    url: str
    user: str
    password: str
    password_from: str
    ca_file: str = ""

    def __repr__(self) -> str:
        return f"Endpoint({self.user} at {self.url})"


class HttpsApi(AdminApi):
    """As AdminApi, with the same calls. The server's certificate is checked against `ca_file`
    (empty: the system's).

    Raises SettingsError for a `ca_file` without certificates. Calls raise NotConnected for a
    certificate that is not trusted, and CommandRefused `not-authorized` for a wrong password,
    `forbidden` for missing rights."""

    def __init__(self, endpoint: Endpoint, timeout_s: float = 10.0) -> None:
        super().__init__(Path(), timeout_s)
        self.account = endpoint.user
        self._at = endpoint
        self._url = endpoint.url.rstrip("/")
        self._way = {"auth": (endpoint.user, endpoint.password)}
        if self._url.lower().startswith("https:"):
            self._way["tls"] = verifying_context("ejabberd.ca_file", endpoint.ca_file)

    @property
    def where(self) -> str:
        return self._at.url

    def _connection_error(self, error: BaseException) -> XmppError:
        if not isinstance(error, ssl.SSLCertVerificationError):
            return super()._connection_error(error)
        trusted = self._at.ca_file or "the system's certificates"
        return NotConnected(
            f"ejabberd's admin API at {self.where}: its certificate is not trusted "
            f"({error.verify_message}); it was checked against {trusted} (ejabberd.ca_file)"
        )

    def _refusal_error(self, command: str, status: int, reason: str) -> CommandRefused:
        if status == _UNAUTHORIZED:
            return CommandRefused(
                "not-authorized",
                f"ejabberd at {self.where} refuses {self._at.user}: there is no such account, or "
                f"the password in {self._at.password_from} is wrong",
            )
        if status == _FORBIDDEN:
            return CommandRefused(
                "forbidden",
                f"{self._at.user} may not run `{command}`: api_permissions in the configuration "
                f"of {self.where} must allow that account to run it (ejabberd/own.yml: `who` and "
                "`what`)",
            )
        if status == _NOT_FOUND:
            return CommandRefused(
                "http-404",
                f"{command}: there is no such command at {self.where}: check the path of "
                "ejabberd.api_url, and that mod_admin_extra and mod_muc_admin are loaded",
            )
        return super()._refusal_error(command, status, reason)


def api_from_settings(loaded: settings.Settings, timeout_s: float = 10.0) -> AdminApi:
    """The admin API that the settings name: `ejabberd.api_socket`, or else `ejabberd.api_url`.

    Raises SettingsError if they name neither, or if the password cannot be read."""
    at = loaded.ejabberd
    if at.api_socket:
        return AdminApi(Path(at.api_socket), timeout_s)
    if not at.api_url:
        raise SettingsError(
            "ejabberd.api_url is not set: https://HOST:PORT/api, with api_user and "
            "api_password_file; or, on the server's own "
            "machine, ejabberd.api_socket"
        )
    name = at.api_user.partition("@")[0]
    password = settings.read_secret(at.api_password_file, f"ejabberd-{name}", name)
    if not (name and password):
        raise SettingsError(
            f"ejabberd.api_url is {at.api_url}: ejabberd.api_user and ejabberd.api_password_file "
            "are needed (or, for the "
            "password, a systemd credential ejabberd-NAME)"
        )
    source = at.api_password_file or f"the systemd credential ejabberd-{name} or {name}"
    return HttpsApi(
        Endpoint(at.api_url, at.api_user, password, source, at.ca_file or loaded.xmpp.ca_file),
        timeout_s,
    )
