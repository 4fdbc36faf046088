"""An account's password as a systemd credential, against a real server."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agents.base.errors import SettingsError
from agents.xmpp.client import Handlers, Login, Session
from tests.fixtures.xmpp import XmppServer


async def test_a_worker_logs_in_with_the_credential_of_its_name(
    xmpp_server: XmppServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await xmpp_server.worker()
    file = tmp_path / account
    file.write_text(xmpp_server.password(account), "ascii")
    file.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    settings = msgspec.structs.replace(xmpp_server.settings(account), password_file="")
    async with Session(Login(settings, f"{xmpp_server.jid(account)}/etl"), Handlers()) as session:
        assert session.jid == f"{xmpp_server.jid(account)}/etl"


async def test_without_file_and_credential_the_error_says_which_are_looked_for(
    xmpp_server: XmppServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    settings = msgspec.structs.replace(xmpp_server.settings(), password_file="")
    with pytest.raises(SettingsError, match=r"xmpp\.password_file: .*credential node-x"):
        await Session(Login(settings, f"{xmpp_server.jid('node-x')}/etl"), Handlers()).open()
