"""Real delays in a run on one machine: the broker is at one site, and each other site reaches it
through a listener of its own, which the delaying proxy is in front of.

Kafka tells each client the address of the listener that it came to, so all connections of a site's
workers are delayed, whatever they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agents.base import ports
from agents.base.errors import SettingsError
from agents.base.suggest import suggest_names
from agents.core.model.inventory import InventoryFile
from agents.geodata import RTT_TABLE, read_rtt
from agents.local.servers.broker import Broker, Listener
from agents.local.servers.delay_proxy import DelayedLink, check_rtt

AZURE = "azure"
"""The word for the default table."""


def choose_sites(file: InventoryFile, wanted: str, origin: str) -> tuple[str, ...]:
    """The sites that `wanted` names, in its order: a number (the first N of the inventory that have
    a node), names between commas, or "" for all that have a node. Raises SettingsError."""
    having = {node.site for node in file.node}
    there = [site.name for site in file.site if site.name in having]
    if not wanted:
        return tuple(there)
    if wanted.isdecimal():
        if not 1 <= int(wanted) <= len(there):
            raise SettingsError(
                f"--sites {wanted}: {origin} has {len(there)} sites with a node; give a number "
                f"from 1 to {len(there)}"
            )
        return tuple(there[: int(wanted)])
    names = tuple(dict.fromkeys(name.strip() for name in wanted.split(",")))
    for name in names:
        if name not in there:
            raise SettingsError(
                f"--sites {wanted}: {origin} has no site {name!r} with a node. "
                f"{suggest_names(name, there)}"
            )
    return names


def keep_sites(file: InventoryFile, sites: Sequence[str], home: str) -> InventoryFile:
    """The inventory with the nodes of these sites only. Other workers of sites that are left out
    are moved to the site `home`, since they are needed."""

    replace = msgspec.structs.replace
    return replace(
        file,
        node=[node for node in file.node if node.site in sites],
        router=[w if w.site in sites else replace(w, site=home) for w in file.router],
        analytics=[w if w.site in sites else replace(w, site=home) for w in file.analytics],
        geo=[w if w.site in sites else replace(w, site=home) for w in file.geo],
    )


@dataclass(frozen=True, slots=True)
class Delays:
    """`rtt_ms`: of each site to the broker, which is at site `broker_at`. `table`: the file that
    they come from."""

    broker_at: str
    rtt_ms: Mapping[str, float]
    table: Path

    @classmethod
    def from_table(
        cls, table: str, file: InventoryFile, sites: Sequence[str], broker_at: str
    ) -> Delays:
        """From the table `azure` or a file with the columns region, lat, lon and one for each
        region (agents/geodata/rtt.py). Raises SettingsError, also for a pair that was not measured
        or a round trip that cannot be delayed."""
        path = RTT_TABLE if table == AZURE else Path(table)
        model = read_rtt(path)
        region = {site.name: site.region for site in file.site}
        if broker_at not in region:
            raise SettingsError(
                f"--broker-at {broker_at}: there is no such site. "
                f"{suggest_names(broker_at, region)}"
            )
        rows = {name: n for n, name in enumerate(model.regions)}
        rtt_ms = {}
        for site in dict.fromkeys((*sites, broker_at)):
            if region[site] not in rows:
                raise SettingsError(
                    f"--delays {table}: the table has no region {region[site]!r}, that of site "
                    f"{site}; add its row and column"
                )
            frm, to = rows[region[site]], rows[region[broker_at]]
            where = f"--delays {table}: {region[site]} to {region[broker_at]}"
            if not model.measured[frm, to] and frm != to:
                raise SettingsError(f"{where}: the table has no round-trip time for this pair")
            at_broker = site == broker_at and not model.measured[frm, to]
            rtt_ms[site] = 0.0 if at_broker else float(model.rtt_ms[frm, to])
            check_rtt(rtt_ms[site], where)
        return cls(broker_at, rtt_ms, path)

    def describe(self) -> str:
        """`Kafka at dsm; round trips yyz 27 ms, iad 28 ms`."""
        others = ", ".join(f"{site} {ms:g} ms" for site, ms in self.rtt_ms.items() if ms)
        return f"Kafka at {self.broker_at}; round trips {others or 'of 0 ms'}"


class DistantBroker(Broker):
    """An embedded broker with one more listener for each site that is not at 0 ms. The broker's
    rack is the site where it is."""

    def __init__(self, folder: Path, delays: Delays) -> None:
        super().__init__(folder)
        self.delays = delays
        self._ports_of = {
            site: (ports.find_free_port(), ports.find_free_port())
            for site, ms in delays.rtt_ms.items()
            if ms
        }
        """Where the broker listens, and the proxy's port, which clients know."""

    @property
    def listeners(self) -> Sequence[Listener]:
        return [
            Listener(f"SITE{n}", f"127.0.0.1:{port}", f"127.0.0.1:{advertised}")
            for n, (port, advertised) in enumerate(self._ports_of.values())
        ]

    @property
    def links(self) -> list[DelayedLink]:
        """What the delaying proxy has to do; each link is named after its site."""
        return [
            DelayedLink(site, advertised, port, self.delays.rtt_ms[site])
            for site, (port, advertised) in self._ports_of.items()
        ]

    def bootstrap_at(self, site: str) -> str:
        """`127.0.0.1:PORT`, as the clients at this site reach the broker."""
        return f"127.0.0.1:{self._ports_of[site][1]}" if site in self._ports_of else self.bootstrap

    def _more_properties(self) -> str:
        threads = [f"listener.name.{x.name.lower()}.num.network.threads=1" for x in self.listeners]
        return "\n".join((f"broker.rack={self.delays.broker_at}", *threads))
