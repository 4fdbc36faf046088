"""The admin API over HTTPS, as one's own server offers it, with an account's name and password in each request (basic
authentication); over plain HTTP on loopback only. What is refused says what is to be changed, and where."""

from __future__ import annotations

import base64
import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agents import settings
from agents.errors import CommandRefused, NotConnected, SettingsError, XmppError
from agents.texts import read_whole
from ejabberd.api import AdminApi


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url`: https://HOST:PORT/api. `user`: a JID. `password_from` names for people where the password is from."""

    url: str
    user: str
    password: str
    password_from: str
    ca_file: str = ""

    def __repr__(self) -> str:
        return f"Endpoint({self.user} at {self.url})"


class HttpsApi(AdminApi):
    """As AdminApi, with the same calls; the server's certificate is checked against `ca_file` (empty: the system's).

    Raises SettingsError for a `ca_file` that holds no certificates. Calls raise NotConnected for a certificate that is
    not trusted, CommandRefused `not-authorized` for a password that is wrong and `forbidden` for missing rights."""

    def __init__(self, endpoint: Endpoint, timeout_s: float = 10.0) -> None:
        super().__init__(Path(), timeout_s)
        self.account = endpoint.user
        self._at = endpoint
        url = urlsplit(endpoint.url)
        self._host, self._base = url.netloc, url.path.rstrip("/")
        self._tls: ssl.SSLContext | None = None
        if url.scheme == "https":
            try:
                if endpoint.ca_file:
                    read_whole(Path(endpoint.ca_file))  # OpenSSL would read a device for ever
                self._tls = ssl.create_default_context(cafile=endpoint.ca_file or None)
            except (OSError, ssl.SSLError) as e:
                raise SettingsError(
                    f"ejabberd.ca_file: {endpoint.ca_file}: no certificates can be read from it ({e})"
                ) from e

    @property
    def where(self) -> str:
        return self._at.url

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, timeout=self.timeout_s, context=self._tls)
        return http.client.HTTPConnection(self._host, timeout=self.timeout_s)

    def _headers(self) -> dict[str, str]:
        proof = base64.b64encode(f"{self._at.user}:{self._at.password}".encode()).decode("ascii")
        return super()._headers() | {"Authorization": f"Basic {proof}"}

    def _path(self, command: str) -> str:
        return f"{self._base}/{command}"

    def _lost(self, error: Exception) -> XmppError:
        if isinstance(error, ssl.SSLCertVerificationError):
            trusted = self._at.ca_file or "the system's certificates"
            return NotConnected(
                f"ejabberd's admin API at {self.where}: its certificate is not trusted ({error.verify_message}); it was "
                f"checked against {trusted} (ejabberd.ca_file)"
            )
        return super()._lost(error)

    def _refused(self, command: str, status: int, reason: str) -> CommandRefused:
        if status == http.client.UNAUTHORIZED:
            return CommandRefused(
                "not-authorized",
                f"ejabberd at {self.where} does not let in {self._at.user}: there is no such account, or the password in "
                f"{self._at.password_from} is wrong",
            )
        if status == http.client.FORBIDDEN:
            return CommandRefused(
                "forbidden",
                f"{self._at.user} may not run `{command}`: api_permissions in the configuration of {self.where} must "
                f"let that account run it (ejabberd/own.yml: `who` and `what`)",
            )
        if status == http.client.NOT_FOUND:
            return CommandRefused(
                "http-404",
                f"{command}: there is no such command at {self.where}: is the path of ejabberd.api_url right, and are "
                f"mod_admin_extra and mod_muc_admin loaded?",
            )
        return super()._refused(command, status, reason)


def api_of(loaded: settings.Settings, timeout_s: float = 10.0) -> AdminApi:
    """The admin API that the settings name: `ejabberd.api_socket`, else `ejabberd.api_url`.

    Raises SettingsError when they name none, or its password cannot be read."""
    at = loaded.ejabberd
    if at.api_socket:
        return AdminApi(Path(at.api_socket), timeout_s)
    if not at.api_url:
        raise SettingsError(
            "ejabberd.api_url is not set: https://HOST:PORT/api, with api_user and api_password_file; or, on the server's own "
            "machine, ejabberd.api_socket"
        )
    name = at.api_user.partition("@")[0]
    password = settings.secret(at.api_password_file, f"ejabberd-{name}", name)
    if not (name and password):
        raise SettingsError(
            f"ejabberd.api_url is {at.api_url}: ejabberd.api_user and ejabberd.api_password_file are needed (or, for the "
            "password, a systemd credential ejabberd-NAME)"
        )
    source = at.api_password_file or f"the systemd credential ejabberd-{name} or {name}"
    return HttpsApi(Endpoint(at.api_url, at.api_user, password, source, at.ca_file or loaded.xmpp.ca_file), timeout_s)
