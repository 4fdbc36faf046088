"""The slixmpp plugin that tells others what we are (XEP-0030, XEP-0115): a bot with our namespaces.
It never asks others."""

from __future__ import annotations

from slixmpp.plugins import BasePlugin
from slixmpp.plugins.base import register_plugin

from plugins import namespaces as ns
from plugins.commands import NODE_PREFIX as OPERATOR_PREFIX
from plugins.lanes.stanza import NAMES, NODE_PREFIX


class GeolaneDiscovery(BasePlugin):  # type: ignore[misc]
    """Identity client/bot, our namespaces as features, and a worker's commands as items. Operator
    commands are only described here; the code that knows the asker's rights lists them.

    slixmpp's XEP-0115 would ask every sender of a presence for its features, so that handler is
    removed."""

    name = "geolane_discovery"
    description = "geolane: what we are"
    dependencies = {"xep_0030", "xep_0115"}  # noqa: RUF012  # slixmpp's form
    default_config = {"worker": False, "operated": ()}  # noqa: RUF012  # slixmpp's form

    def plugin_init(self) -> None:
        self.xmpp.remove_handler("Entity Capabilities")
        self.xmpp.unregister_feature("caps", 10010)

    async def announce_features(self) -> None:
        """Call this after the session has begun and before the first presence: from then on each
        presence carries the caps hash."""
        disco = self.xmpp.plugin["xep_0030"]
        await disco.add_identity(category="client", itype="bot", name="geolane")
        for feature in ns.OURS:
            await disco.add_feature(feature)
        if self.worker:
            await disco.add_feature(ns.COMMANDS)
            for name in NAMES:
                await disco.add_item(
                    jid=self.xmpp.boundjid.full,
                    name=name,
                    node=ns.COMMANDS,
                    subnode=NODE_PREFIX + name,
                )
        if self.operated:
            await disco.add_feature(ns.COMMANDS)
            await disco.add_feature(ns.OPERATOR)
            await disco.add_identity(category="automation", itype="command-list", node=ns.COMMANDS)
            for name in self.operated:
                node = OPERATOR_PREFIX + name
                await disco.add_identity(
                    category="automation", itype="command-node", name=name, node=node
                )
                for feature in (ns.COMMANDS, ns.DATA):
                    await disco.add_feature(feature, node=node)
        await self.xmpp.plugin["xep_0115"].update_caps(broadcast=False)


register_plugin(GeolaneDiscovery)
