"""`geolane abort-transaction`: ends a transaction that hangs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agents.cli.options import FILE, SET, load_account_settings


@click.command("abort-transaction")
@click.argument("topic")
@click.argument("partition", type=click.IntRange(0))
@click.argument("offset", type=click.IntRange(0))
@click.option(
    "--settings", type=FILE, help="The settings file (default: that of the running stack)."
)
@SET
def abort_transaction(
    topic: str, partition: int, offset: int, settings: Path | None, sets: tuple[str, ...]
) -> None:
    """Abort the open transaction that begins at OFFSET of that partition: what it wrote is void,
    and readers behind it continue. `status` says when that is needed, and for which offset.

    The account needs the right ClusterAction; it is kafka.admin_username if the settings name one.
    Kafka's own tool does the same: kafka-transactions.sh abort --topic TOPIC --partition PARTITION
    --start-offset OFFSET."""
    from agents.base import log, supervisor
    from agents.kafka.abort_transaction import abort_open_transaction

    log.setup("abort", "CRITICAL")

    async def run() -> int:
        pid = await abort_open_transaction(
            load_account_settings(settings, sets, "geolane").kafka.admin, topic, partition, offset
        )
        click.echo(
            f"{topic} {partition}: the transaction of producer {pid} from offset {offset:,} on is "
            "aborted"
        )
        return 0

    sys.exit(supervisor.run(run, tell=False))
