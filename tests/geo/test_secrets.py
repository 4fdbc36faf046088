"""Team id, key id, key and tokens of Apple are in no log, error, report or object that is shown."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from agents.local.demo.maps.apple_maps import KEY_FILE
from tests.geo.canaries import KEY_ID, TEAM_ID, TOKEN

ROOT = Path(__file__).parents[2]
SHOWN = (
    "refuses the team's key",
    "answers with status 500",
    "did not answer within",
    "cannot be read",
    "access token that cannot be used",
    "quota is used up",
    "is not a private key",
    "(hidden)",
    "maps_circuit_open",
    "Traceback",
    "httpcore2",
)
"""What the output must have: else the search for secrets in it would prove nothing."""


async def test_no_canary_is_shown(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.geo.canaries", str(tmp_path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out = (await process.communicate())[0].decode()
    assert process.returncode == 0, out[-3000:]
    assert [words for words in SHOWN if words not in out] == []
    sent = json.loads((tmp_path / "sent.json").read_text())
    jwt_parts = {part for text in sent for part in text.removeprefix("Bearer ").split(".")}
    key_lines = (tmp_path / KEY_FILE).read_text().splitlines()[1:-1]
    secrets = {TEAM_ID, TEAM_ID[:-1], KEY_ID, TOKEN, *jwt_parts, *key_lines} - {""}
    assert len(secrets) > 20
    assert [(secret, out.count(secret)) for secret in secrets if secret in out] == []
