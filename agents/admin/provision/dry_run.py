"""The commands with which an administrator does by hand what `geolane provision` does. Those for
ejabberd are recorded from provisioning itself; those for Kafka are written from the same topics and
rights. They name the files of the passwords and never contain a password."""

from __future__ import annotations

import tempfile
from pathlib import Path
from shlex import quote
from typing import Any

from agents.admin.provision.options import ProvisionOptions
from agents.kafka.rights import kafka_acls_arguments
from agents.kafka.topics import fleet_topics
from ejabberd.api import AdminApi
from ejabberd.provision import NO_PRIVATE_MESSAGES, ROOM_OPTIONS, provision_server


class Recorder(AdminApi):
    """Behaves as the API of an empty server. Each call becomes a line for ejabberdctl."""

    def __init__(self, secrets: Path) -> None:
        super().__init__(Path())
        self._secrets = secrets
        self.lines: list[str] = []
        self._groups: set[str] = set()

    async def call(self, command: str, **arguments: Any) -> Any:  # Any: as AdminApi
        if command == "check_account":
            return 1  # there is no account
        if command == "muc_online_rooms":
            return []
        if command == "get_room_options":
            # a new room's options; which of NO_PRIVATE_MESSAGES the server has is not known here
            return ROOM_OPTIONS
        if command == "get_room_affiliation":
            return {"affiliation": "none"}
        if command == "srg_create":
            shows = arguments["display"]
            if shows and shows not in self._groups:
                return 1  # as newer servers do
            self._groups.add(arguments["group"])
        if command == "create_room_with_opts":  # ejabberdctl 23.01 cannot read a list of options
            options = arguments.pop("options")
            await self.call("create_room", **arguments)
            for option in options:
                room = {name: arguments[name] for name in ("name", "service")}
                await self.call(
                    "change_room_option", **room, option=option["name"], value=option["value"]
                )
            return 0
        words = []
        for name, value in arguments.items():
            if name == "password":
                words.append(f'"$(cat {quote(str(self._secrets / arguments["user"]))})"')
            else:
                words.append(quote(str(value)))
        self.lines.append(" ".join(["ctl", command, *words]))
        return 0


async def list_commands(asked: ProvisionOptions) -> list[str]:
    """A shell script, line by line. Raises SettingsError (a name)."""
    files = [*asked.accounts, *(p.name for p in asked.people)] if asked.only != "kafka" else []
    folder = quote(str(asked.secrets))
    out = ["#!/bin/sh", "set -eu", f"install -d -m 700 {folder}", "umask 077"]
    out += [f"for account in {' '.join(map(quote, files))}; do"] if files else []
    out += (
        [f'  test -s {folder}/"$account" || openssl rand -base64 33 > {folder}/"$account"', "done"]
        if files
        else []
    )
    if asked.only != "kafka":
        out += await _xmpp_commands(asked)
    if asked.only != "xmpp":
        out += _kafka_commands(asked)
    return out


async def _xmpp_commands(asked: ProvisionOptions) -> list[str]:
    domain = asked.settings.xmpp.domain
    with tempfile.TemporaryDirectory() as scratch:  # passwords that nobody sees
        recorder = Recorder(asked.secrets)
        await provision_server(recorder, domain, asked.workers, asked.people, Path(scratch))
    first, second = NO_PRIVATE_MESSAGES.items()
    return [
        "",
        "# On the XMPP server, as root or the user ejabberd. What exists already is refused, "
        "which does no harm.",
        "# Since ejabberd 24.02 write `ejabberdctl --version 0`. It takes passwords only as "
        "arguments, so they are",
        "# seen in the list of processes while it runs.",
        'ctl() { ejabberdctl "$@" || echo "refused: $1 $2" >&2; }',
        *recorder.lines,
        "# Only one of the two works: the first up to ejabberd 23.01, the second since 23.04.",
        f"ctl change_room_option ops conference.{domain} {' '.join(first)}",
        f"ctl change_room_option ops conference.{domain} {' '.join(second)}",
    ]


def _kafka_commands(asked: ProvisionOptions) -> list[str]:
    kafka, coordinator = asked.settings.kafka, asked.settings.coordinator
    copies = kafka.topics.replication or 3
    out = [
        "",
        "# On a machine with Kafka's scripts; admin.properties has the security.protocol, "
        "sasl.jaas.config and so on of an",
        "# account with the rights.",
        f"to='--bootstrap-server {kafka.bootstrap} --command-config admin.properties'",
    ]
    for topic in fleet_topics(coordinator.lanes, coordinator.raw_partitions, kafka.topics):
        config = " ".join(
            f"--config {key}={value}" for key, value in topic.wanted_config(False).items()
        )
        out.append(
            f"kafka-topics.sh $to --create --if-not-exists --topic {topic.name} --partitions "
            f"{topic.partitions} "
            f"--replication-factor {copies} {config}"
        )
    if users := asked.kafka_users:
        out += _account_function(kafka.sasl_mechanism)
        out += [f"account {quote(user)} {quote(str(file))}" for user, file in users.items()]
    out += [f"kafka-acls.sh $to {kafka_acls_arguments(right)}" for right in asked.kafka_rights]
    out.append(
        "# And the lane map: geolane provision --only kafka --sample FILE, with an account that "
        "may write `lanemap`."
    )
    return out


def _account_function(mechanism: str) -> list[str]:
    """The shell function `account USER FILE`."""
    return [
        "",
        "# An account that exists without a file here was not made here: its password is kept.",
        "account() {",
        '  user="--entity-type users --entity-name $1"',
        '  if ! test -s "$2"; then',
        "    if kafka-configs.sh $to --describe $user | grep -q SCRAM-SHA-; then",
        '      echo "refused: Kafka\'s account $1 exists, and there is no $2" >&2',
        "      return",
        "    fi",
        '    openssl rand -base64 33 > "$2"',
        "  fi",
        f'  echo "{mechanism}=password=$(cat "$2")" |',
        "    kafka-configs.sh $to --alter $user --add-config-file /dev/stdin",
        "}",
    ]
