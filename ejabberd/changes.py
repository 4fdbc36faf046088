"""What provisioning never does: a worker's place taken away again. It may be cut off at any point, and done again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from agents.errors import CommandRefused, SettingsError
from ejabberd import accounts, feeds
from ejabberd.api import AdminApi
from ejabberd.provision import WORKER, pubsub

Tell = Callable[[str, str], None]


async def remove_worker(api: AdminApi, domain: str, worker: str, secrets: Path, tell: Tell) -> None:
    """Account, place in the shared roster, feed and password file of one worker; its session ends. Who leads must have
    fenced it before, else it does so now. Raises SettingsError (name, file), XmppError."""
    if not WORKER.fullmatch(worker):
        raise SettingsError(f"worker {worker!r}: an account is node-NAME or router-NAME")
    fleet, feed = f"fleet.{domain}", feeds.telemetry(worker).name
    there = await accounts.exists(api, worker, fleet)
    try:
        await api.call("srg_user_del", user=worker, host=fleet, group="workers", grouphost=fleet)
    except CommandRefused as e:
        if there or e.condition in ("not-authorized", "forbidden"):
            raise
    await pubsub(api, domain, feeds.affiliate(feeds.TUNING.name, [(f"{worker}@{fleet}", "none")]), feeds.delete(feed))
    if there:
        await api.call("unregister", user=worker, host=fleet)
    tell("gone", f"account {worker}@{fleet}, its place in the roster, feed {feed}")
    await asyncio.to_thread(accounts.forget, secrets, worker)
