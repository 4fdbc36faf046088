"""docs/deploy.md pasted into a shell from top to bottom, on an ejabberd and a Kafka that it sets
up: in namespaces of its own for mounts, network and processes, so it has /etc, ports and names to
itself. Only systemctl, apt-get and Kafka's start scripts are stand-ins.

Another ejabberd than the installed one: EJABBERD_ROOT=DIR, a Debian root that has it (`mmdebstrap
--include=ejabberd trixie DIR`)."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from agents.core.model.topology import TOPIC_CLEAN, TOPIC_RAW
from agents.kafka.connection import client_kwargs, make_committed_reader
from agents.settings import load_settings

pytestmark = pytest.mark.stack

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "deploy.md"
EVENTS = 500
LIMIT_S = 300

SHIMS = {
    "apt-get": "exit 0",
    "geolane": f'exec {sys.executable} -m agents "$@"',
    "kafka-storage.sh": f'exec java -cp "{PROJECT}/.local/kafka/*" kafka.tools.StorageTool "$@"',
    "kafka-server-start.sh": f"""
exec setsid java -Xmx256m -XX:TieredStopAtLevel=1 -cp "{PROJECT}/.local/kafka/*" kafka.Kafka "$2" \\
  > "$HOME/kafka.log" 2>&1 < /dev/null &""",
    "systemctl": 'case "$*" in restart*ejabberd*) ejabberdctl start;; esac',
}
IN_ROOT = """
chroot "$EJABBERD_ROOT" chown -R ejabberd /etc/ejabberd
exec chroot "$EJABBERD_ROOT" ejabberdctl "$@"
"""

BEFORE = """
set -euo pipefail
ip link set lo up
cp -a /etc "$HOME/etc"
mount --bind "$HOME/etc" /etc
printf '127.0.0.1 localhost %s xmpp.example.org kafka.example.org\\n' "$(hostname)" > /etc/hosts
: > /etc/resolv.conf        # no name server to wait for
mount -t tmpfs none /srv
root=${EJABBERD_ROOT:-}
if [ -n "$root" ]; then
  cp -a "$root/etc" "$HOME/root-etc"
  mount --bind "$HOME/root-etc" "$root/etc"
  mount --bind "$root/etc/ejabberd" /etc/ejabberd
  mount --bind "$root/etc/default/ejabberd" /etc/default/ejabberd
  cp /etc/hosts /etc/resolv.conf "$root/etc/"
  mount --rbind /dev "$root/dev"
  mount -t proc proc "$root/proc"
fi
mount -t tmpfs none "$root/run"
mkdir "$root/run/ejabberd"          # as systemd does
for folder in /var/lib/ejabberd /var/log/ejabberd /run/ejabberd; do
  [ "$folder" = /run/ejabberd ] || mount -t tmpfs none "$root$folder"
  chroot "${root:-/}" chown ejabberd "$folder"
done
trap 'tail -vn 20 "$root"/var/log/ejabberd/*.log "$HOME"/*.log' ERR
mkdir -p /etc/geolane && cp "$HOME/sample.jsonl" /etc/geolane/
"""
AFTER = f"""
echo == events
{sys.executable} -c 'from tests.admin.test_deploy_page import pass_events as p; p()'
echo == again
geolane provision --settings geolane.toml --people ana:owner,bo:member
"""


def sensor_event(n: int) -> bytes:
    """No flight: with the demo's pipeline each was a dead letter."""
    event = {
        "id": f"s-{n}",
        "ts": "2026-01-01T00:00:00Z",
        "origin": {"lat": 37.4 + n % 10, "lon": -79.8},
        "celsius": n % 40,
    }
    return orjson.dumps(event)


def pass_events() -> None:
    """Runs where the page was pasted: one's own events come out as they went in."""
    asyncio.run(_pass_events())


async def _pass_events() -> None:
    kafka = load_settings(Path("geolane.toml")).kafka.admin
    sent = {sensor_event(n) for n in range(EVENTS)}
    async with AIOKafkaProducer(**client_kwargs(kafka)) as producer:
        for event in sent:
            await producer.send(TOPIC_RAW, event)
    reader = make_committed_reader(kafka, auto_offset_reset="earliest")
    reader.subscribe([TOPIC_CLEAN])
    await reader.start()
    came: list[bytes] = []
    try:
        async with asyncio.timeout(60):
            while len(came) < EVENTS:
                came += [
                    r.value for rs in (await reader.getmany(timeout_ms=500)).values() for r in rs
                ]
    finally:
        await reader.stop()
    assert sorted(came) == sorted(sent)
    print(f"{EVENTS} events passed")


def shell_blocks() -> str:
    """All that the page tells to paste."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S))


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="geolane-page-"))
    path.chmod(0o711)  # ejabberd's user passes through
    yield path
    shutil.rmtree(path)


def test_the_page_names_what_is_ones_own_and_one_domain_only() -> None:
    pasted = shell_blocks()
    assert pasted.count("example.org") == pasted.count("domain=example.org") == 1
    assert "#pipeline = " in pasted
    assert "YOUR" not in PAGE.read_text("utf-8")


@pytest.mark.timeout(LIMIT_S + 50)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes namespaces and mounts")
def test_pasted_from_top_to_bottom_it_gives_a_healthy_fleet(home: Path) -> None:
    shims = dict(SHIMS)
    if os.environ.get("EJABBERD_ROOT"):
        shims["ejabberdctl"] = IN_ROOT
    (home / "bin").mkdir()
    for name, text in shims.items():
        (home / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (home / "bin" / name).chmod(0o755)
    (home / "geolane").symlink_to(PROJECT)
    (home / "sample.jsonl").write_bytes(b"\n".join(map(sensor_event, range(EVENTS))))
    script = home / "pasted"
    script.write_text(f"{BEFORE}\n{shell_blocks()}\n{AFTER}")
    given = {
        "HOME": str(home),
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "EJABBERD_ROOT": os.environ.get("EJABBERD_ROOT", ""),
    }
    namespaces = ("--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child")
    log = home / "log"
    with log.open("wb") as out:
        done = subprocess.run(
            ["unshare", *namespaces, "bash", "-x", script],
            env=os.environ | given,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
    said = log.read_text("utf-8", "replace")
    assert done.returncode == 0, said[-6000:]
    provisioned, again = said.partition("== events")[0], said.partition("== again")[2]
    assert "would be made: account geolane@fleet.example.org" in provisioned
    assert "made: lane map, version 1" in provisioned
    assert "32/32 lanes" in said
    assert re.search(r"^as geolane: \d+ ok", said, re.M)
    assert " fault" not in re.findall(r"^as geolane: .*", said, re.M)[-1]
    assert "0 dead letters" in said
    assert f"{EVENTS} events passed" in said
    steps = [line for line in again.splitlines() if re.match(r"(made|changed|unchanged): ", line)]
    assert steps
    assert all(line.startswith("unchanged") for line in steps), again
