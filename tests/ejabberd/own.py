"""A server of one's own: ejabberd/own.yml with another domain, free ports on loopback and folders
of the test's, else as it is.

Another version than the installed one: unpack its packages (dpkg -x) and say where their Erlang
libraries are, EJABBERD_LIBRARIES=DIR/usr/lib/erlang/lib:DIR/usr/lib/x86_64-linux-gnu pytest
tests/ejabberd/test_own_server.py"""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from agents import settings
from agents.base import ports
from agents.settings import Ejabberd, Settings, Xmpp
from ejabberd import certificate
from ejabberd.server import Server, hosts_of_domain
from tests.kafka.secured import secret

OWN = Path(__file__).parents[2] / "ejabberd" / "own.yml"
ADMIN_PASSWORD = "the admin's own"

# What ejabberdctl is to an administrator, this socket is to the test: it makes the first account.
_LISTENER = """
  - port: "unix:{socket}"
    module: ejabberd_http
    tag: "console"
    request_handlers:
      /api: mod_http_api
"""
_PERMISSION = """
  "test's console":
    from:
      - tag: "console"
    who: all
    what: "*"
"""


class OwnServer(Server):
    """`api` is the console; `settings()` is how anybody else gets in."""

    def __init__(self, folder: Path, domain: str) -> None:
        super().__init__(folder, domain)
        self.api_port = ports.find_free_port()

    def _find_erlang_libraries(self) -> str:
        return os.environ.get("EJABBERD_LIBRARIES") or super()._find_erlang_libraries()

    def _prepare_folder(self) -> None:
        super()._prepare_folder()
        conf = self.folder / "conf"
        text = OWN.read_text("utf-8")
        for theirs, ours in (
            ("example.org", self.domain),
            ('"::"', '"127.0.0.1"'),
            ("port: 5222", f"port: {self.c2s_port}"),
            ("port: 5443", f"port: {self.http_port}"),
            ("port: 5281", f"port: {self.api_port}"),
            ("/etc/ejabberd/geolane.pem", f"{conf}/server.pem"),
            ("/var/lib/ejabberd/upload", f"{self.folder}/spool/upload"),
            ("\nlisten:\n", "\nlisten:" + _LISTENER.format(socket=self.api.socket_path)),
            ("\napi_permissions:\n", "\napi_permissions:" + _PERMISSION),
        ):
            assert theirs in text, theirs
            text = text.replace(theirs, ours)
        self.user.write_private_file(conf / "ejabberd.yml", text.encode())
        names = [*hosts_of_domain(self.domain), f"upload.{self.domain}", f"xmpp.{self.domain}"]
        ca, server = certificate.make_certificates(names, datetime.datetime.now(datetime.UTC))
        self.user.write_private_file(conf / "server.pem", server)
        self.ca_file.write_bytes(ca)

    async def start(self, timeout_s: float = 30) -> None:
        await super().start(timeout_s)
        await self.api.call("register", user="admin", host=self.domain, password=ADMIN_PASSWORD)

    def settings(self, password_file: Path, password: str = ADMIN_PASSWORD) -> Settings:
        """As an administrator writes them; the password is put into `password_file`."""
        return settings.Settings(
            xmpp=Xmpp(
                domain=self.domain, host="127.0.0.1", port=self.c2s_port, ca_file=str(self.ca_file)
            ),
            ejabberd=Ejabberd(
                api_url=f"https://127.0.0.1:{self.api_port}/api",
                api_user=f"admin@{self.domain}",
                api_password_file=secret(password_file, password),
            ),
        )
