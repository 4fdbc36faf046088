"""Settings of the servers that all processes use: Kafka and its topics, XMPP, ejabberd."""

from __future__ import annotations

from typing import Annotated

import msgspec

from agents.settings.fields import about, about_file, choice

_BROKERS = r"\A[^\s,]+:\d+(,[^\s,]+:\d+)*\Z"
_NAME = r"\A[^\s@/]+\Z"
_LOOPBACK = r"(127\.\d+\.\d+\.\d+|localhost|\[::1\])"
_API_URL = rf"\A(|https://[^\s/@]+/\S+|http://{_LOOPBACK}(:\d+)?/\S+)\Z"
_JID = r"\A(|[^\s@/:]+@[^\s@/:]+)\Z"
ACCOUNT = "{account}"
_BUFFER = (
    "The {} buffer of our sockets to Kafka, which limits what is under way in one round trip; 0: "
    "the system's, which grows as needed."
)
_KEPT = "kept for at least this long; 0: the broker's default"


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The topics that `geolane provision` creates; their partitions are coordinator.lanes and
    coordinator.raw_partitions."""

    replication: Annotated[
        int,
        about(
            "Copies of each partition; 0: 3, or the number of brokers if that is less.",
            "brokers",
            ge=0,
            le=100,
        ),
    ] = 0
    min_isr: Annotated[
        int,
        about(
            "Copies that a write waits for (min.insync.replicas); 0: the broker's default.",
            "brokers",
            ge=0,
            le=100,
        ),
    ] = 0
    raw_retention_h: Annotated[float, about(f"events.raw: {_KEPT}.", "h", ge=0)] = 0.0
    lanes_retention_h: Annotated[float, about(f"events.lanes: {_KEPT}.", "h", ge=0)] = 0.0
    clean_retention_h: Annotated[float, about(f"events.clean: {_KEPT}.", "h", ge=0)] = 0.0
    dead_retention_h: Annotated[float, about(f"events.dead: {_KEPT}.", "h", ge=0)] = 0.0
    unplaced_retention_h: Annotated[float, about(f"events.unplaced: {_KEPT}.", "h", ge=0)] = 0.0


class Kafka(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the brokers are reached."""

    bootstrap: Annotated[
        str,
        about(
            "The brokers to ask first.",
            form="HOST:PORT, several with commas between",
            pattern=_BROKERS,
        ),
    ] = "127.0.0.1:9092"
    security: Annotated[
        str, choice("Kafka's security.protocol.", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        str,
        choice(
            "How a process proves its password, with SASL.",
            "PLAIN",
            "SCRAM-SHA-256",
            "SCRAM-SHA-512",
        ),
    ] = "SCRAM-SHA-512"
    username: Annotated[
        str,
        about(
            "The account, with SASL. {account} in it is replaced by the process's own: geolane, "
            "node-NAME, router-NAME, analytics-NAME, geo-NAME."
        ),
    ] = ""
    password_file: Annotated[
        str,
        about_file(
            "File with the account's password, mode 0600; it may contain {account}, too. If left "
            "out: the systemd credential kafka-USERNAME, else USERNAME."
        ),
    ] = ""
    ca_file: Annotated[
        str,
        about_file(
            "CA certificates (PEM) that the brokers' certificates are checked against, with SSL. "
            "If left out: the system's."
        ),
    ] = ""
    admin_username: Annotated[
        str,
        about(
            "The account with which `geolane provision` creates topics, accounts and rights. If "
            "left out: only topics, by username."
        ),
    ] = ""
    admin_password_file: Annotated[
        str,
        about_file(
            "File with that account's password, mode 0600. If left out: the systemd credential "
            "kafka-NAME, else NAME."
        ),
    ] = ""
    send_buffer_bytes: Annotated[int, about(_BUFFER.format("send"), "bytes", ge=0, le=1 << 30)] = 0
    receive_buffer_bytes: Annotated[
        int, about(_BUFFER.format("receive"), "bytes", ge=0, le=1 << 30)
    ] = 0
    topics: Topics = Topics()

    def for_account(self, account: str) -> Kafka:
        """As the process with the XMPP account `account` uses it: `{account}` is filled in."""
        return msgspec.structs.replace(
            self,
            username=self.username.replace(ACCOUNT, account),
            password_file=self.password_file.replace(ACCOUNT, account),
        )

    @property
    def admin(self) -> Kafka:
        """As the account that provisions uses it."""
        if not self.admin_username:
            return self
        return msgspec.structs.replace(
            self, username=self.admin_username, password_file=self.admin_password_file
        )


class Xmpp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The XMPP server. Agents log in at fleet.DOMAIN."""

    domain: Annotated[str, about("The people's domain.", form="a domain's name", pattern=_NAME)] = (
        "geolane.test"
    )
    host: Annotated[
        str,
        about(
            "The server's host, reached with STARTTLS.",
            form="a host's name or address",
            pattern=_NAME,
        ),
    ] = "127.0.0.1"
    port: Annotated[int, about("The server's port for clients.", ge=1, le=65_535)] = 5222
    ca_file: Annotated[
        str,
        about_file(
            "CA certificates (PEM) that the server's certificate is checked against. If left "
            "out: the system's."
        ),
    ] = ""
    password_file: Annotated[
        str,
        about_file(
            "File with the password of the process's account (geolane, node-NAME, router-NAME, "
            "analytics-NAME, geo-NAME), mode 0600. If left out: the systemd credential of the "
            "account's name."
        ),
    ] = ""
    sasl: Annotated[
        str,
        choice(
            "How the process authenticates. SCRAM: by SCRAM-SHA-256 or -512, never by sending "
            "the password; EXTERNAL: by cert_file, without a password (docs/deploy.md).",
            "SCRAM",
            "EXTERNAL",
        ),
    ] = "SCRAM"
    cert_file: Annotated[
        str,
        about_file(
            "The process's own certificate and its private key (PEM), mode 0600, for sasl "
            "EXTERNAL. {account} in it is replaced by the process's account. If left out: the "
            "systemd credential ACCOUNT.pem."
        ),
    ] = ""

    def for_account(self, account: str) -> Xmpp:
        """As the process with the XMPP account `account` uses it: `{account}` is filled in."""
        return msgspec.structs.replace(self, cert_file=self.cert_file.replace(ACCOUNT, account))

    @property
    def fleet(self) -> str:
        return f"fleet.{self.domain}"

    @property
    def room(self) -> str:
        return f"ops@conference.{self.domain}"

    @property
    def pubsub(self) -> str:
        return f"pubsub.fleet.{self.domain}"

    @property
    def coordinator(self) -> str:
        """The bare JID of the coordinator; its leader is `/leader` of it."""
        return f"geolane@fleet.{self.domain}"


class Ejabberd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The admin API of the XMPP server, for `geolane provision` and the other commands that make
    accounts (docs/deploy.md)."""

    api_url: Annotated[
        str,
        about(
            "Its address over HTTP, for api_user with a password.",
            form="a URL: https://HOST:PORT/api (http:// on loopback only), or empty",
            pattern=_API_URL,
        ),
    ] = ""
    api_socket: Annotated[
        str,
        about_file(
            "Its unix socket, instead of api_url: a process that may open it is admin, without a "
            "password."
        ),
    ] = ""
    api_user: Annotated[
        str,
        about(
            "The JID of an account that api_permissions admits.",
            form="NAME@DOMAIN, or empty",
            pattern=_JID,
        ),
    ] = ""
    api_password_file: Annotated[
        str,
        about_file(
            "File with that account's password, mode 0600. If left out: the systemd credential "
            "ejabberd-NAME, else NAME."
        ),
    ] = ""
    ca_file: Annotated[
        str,
        about_file(
            "CA certificates (PEM) that the API's certificate is checked against. If left out: "
            "xmpp.ca_file, else the system's."
        ),
    ] = ""
