"""A process that uses Apple Maps with secrets that can be recognised, through every failure, and
shows all that it can: logs of every level and library, errors with their causes, its objects, the
doctor's report, the settings. Run by test_secrets.py: `python -m tests.geo.canaries FOLDER`."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import traceback
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agents.admin.doctor.check import run_checks
from agents.admin.doctor.judge.roles import Whom
from agents.admin.doctor.judge.verdict import Report
from agents.admin.doctor.maps import MapsCheck
from agents.base import log
from agents.geo.providers import Providers, open_providers
from agents.local.demo.maps.apple_access import MapsAccess
from agents.local.demo.maps.apple_maps import AppleMaps
from agents.local.demo.maps.http_stand_in import HttpFault, HttpRequest, HttpResponse
from agents.settings import Geo, gather_settings
from agents.settings.show import effective_file, settings_to_json

TEAM_ID, KEY_ID, TOKEN = "CANARYTEAM", "CANARYKEYS", "CANARY-TOKEN"


@dataclass(slots=True)
class CanaryAccess(MapsAccess):
    """Gives tokens that can be recognised."""

    def issue_token(self, now: float) -> str:
        token = f"{TOKEN}-{MapsAccess.issue_token(self, now)}"
        self._tokens[token] = now + self.token_valid_s
        return token


@dataclass(slots=True)
class TalkativeMaps(AppleMaps):
    """`refusal`: the status of all answers to `refuses`; each repeats what it was sent."""

    refusal: int = 0
    refuses: str = ""

    def answer(self, request: HttpRequest) -> HttpResponse:
        if self.refusal and request.path.startswith(self.refuses):
            sent = request.headers.get("authorization", "")
            message = f"{sent} of team {TEAM_ID}, key {KEY_ID}, {'x' * 120} {sent}"
            return HttpResponse(self.refusal, {"error": {"message": message, "details": [sent]}})
        return AppleMaps.answer(self, request)


FAULTS = (
    None,
    HttpFault(status=500),
    HttpFault(share=0.5),
    HttpFault(share=0.0),
    HttpFault(wait_s=1),
    HttpFault(body=b"<html>"),
    HttpFault(body=json.dumps({"results": TOKEN, "etas": TEAM_ID, "accessToken": 1}).encode()),
    HttpFault(
        body=json.dumps({"accessToken": f"{TOKEN}\r\nx: y", "expiresInSeconds": 1800}).encode()
    ),
    HttpFault(body=json.dumps({"accessToken": TOKEN + "é", "expiresInSeconds": 1800}).encode()),
)
REFUSALS = (301, 400, 401, 403, 404, 429, 503)


async def main(folder: Path) -> None:
    log.setup("canaries", "DEBUG")
    logging.getLogger().setLevel(logging.DEBUG)
    async with TalkativeMaps.started(folder) as server:
        assert isinstance(server, TalkativeMaps)
        assert server.access is not None
        server.access = CanaryAccess(TEAM_ID, KEY_ID, server.access.public_key)
        file = folder / "geolane.toml"
        file.write_text(
            '[geo]\ngeocoder = "apple"\ntravel_times = "apple"\n'
            f'[geo.apple]\nteam_id = "{TEAM_ID}"\n'
            f'key_id = "{KEY_ID}"\nkey_file = "{server.settings.key_file}"\nurl = "{server.url}"\n'
            f'budget_file = "{server.settings.budget_file}"\n'
        )
        file.chmod(0o600)
        loaded = gather_settings(file, environ={})
        print(effective_file(loaded), settings_to_json(loaded), loaded, repr(loaded.settings))
        geo = loaded.settings.geo
        for fault in FAULTS:
            server.always = fault
            await use(geo)
        server.always = None
        await examine(geo)
        for path in ("/v1/token", "/v1/geo"):
            for status in REFUSALS:
                server.refusal, server.refuses = status, path
                await use(geo)
                await examine(geo)
                (folder / "apple-maps-budget.json").unlink()  # a 429 has ended the day
        server.refusal = 0
        for apple in (
            msgspec.structs.replace(geo.apple, key_file=str(file)),
            msgspec.structs.replace(geo.apple, key_file=str(folder / "missing")),
            msgspec.structs.replace(geo.apple, team_id="CANARYTEA2"),
        ):
            await use(msgspec.structs.replace(geo, apple=apple))
            await examine(msgspec.structs.replace(geo, apple=apple))
        sent = [r.headers.get("authorization", "") for r in server.requests]
        (folder / "sent.json").write_text(json.dumps(sent))


async def examine(geo: Geo) -> None:
    report = Report("geo-1", await run_checks(MapsCheck(geo, Whom("geo-1")).list_checks()))
    print(report.to_text(), report.to_json())


async def use(geo: Geo) -> None:
    """Every kind of request, with all that it shows."""
    try:
        providers = await asyncio.to_thread(open_providers, geo)
    except Exception:  # noqa: BLE001 - it is shown
        traceback.print_exc()
    else:
        providers.servers[0].timeout_s, providers.servers[0].pause_s = 0.2, 0.01
        await use_providers(providers)


async def use_providers(providers: Providers) -> None:
    travel_times = providers.travel_times
    assert travel_times is not None
    asked: list[Awaitable[Any]] = [
        providers.people.find("Paris"),
        providers.people.find("Paris", "FR"),
        providers.names.name_at(48.9, 2.3),
        travel_times.measure((48.9, 2.3), [(48.8, 2.4)]),
        providers.figures(),
    ]
    for answer in asked:
        try:
            print(await answer)
        except Exception:  # noqa: BLE001 - it is shown
            traceback.print_exc()
        print(repr(providers), repr(travel_times))
    await providers.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
