"""How Kafka's Java clients reach the brokers: the same settings in their own keys."""

from __future__ import annotations

from pathlib import Path

from agents import settings
from agents.base.files import decode_utf8, read_whole_file
from agents.kafka.connection import client_kwargs

SECURITY = "org.apache.kafka.common.security"
"""Where Kafka's own jar has the classes that log in."""


def java_properties(kafka: settings.Kafka, security: str = SECURITY) -> dict[str, str]:
    """The properties, the password and the CA certificates among them. `security`: the package of
    the classes that log in. Blocks. Raises SettingsError, as `client_kwargs` does."""
    kwargs = client_kwargs(kafka)
    options = {"bootstrap.servers": kafka.bootstrap, "security.protocol": kafka.security}
    for key, size in (
        ("send.buffer.bytes", kafka.send_buffer_bytes),
        ("receive.buffer.bytes", kafka.receive_buffer_bytes),
    ):
        if size:
            options[key] = str(size)
    if "sasl_mechanism" in kwargs:
        module = "plain.Plain" if kafka.sasl_mechanism == "PLAIN" else "scram.Scram"
        user, password = (
            kwargs[f"sasl_plain_{name}"].replace("\\", r"\\").replace('"', r"\"")
            for name in ("username", "password")
        )
        options |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.jaas.config": f"{security}.{module}LoginModule required "
            f'username="{user}" password="{password}";',
        }
    if kafka.security.endswith("SSL") and kafka.ca_file:
        options |= {
            "ssl.truststore.type": "PEM",
            "ssl.truststore.certificates": decode_utf8(
                read_whole_file(Path(kafka.ca_file)), kafka.ca_file
            ),
        }
    return options
