"""The tables of docs/metrics.md, made from declared.py: `python -m agents.observe.metrics.page
docs/metrics.md` renews them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from agents.observe.metrics.declared import (
    COORDINATOR,
    EVERY_PROCESS,
    FLINK,
    GEO_WORKER,
    IN_PROCESS,
    KAFKA_STREAMS,
    WITH_GEO,
    WORKER,
    Metric,
)

BEGIN, END = "<!-- made from agents/observe/metrics/declared.py -->\n", "<!-- end -->\n"
_PARTS = (
    ("Every process", EVERY_PROCESS),
    ("Workers: nodes, routers, analytics, geo", WORKER),
    ("Geo workers with an online provider", GEO_WORKER),
    ("Routers on Kafka Streams", KAFKA_STREAMS),
    ("Analytics in process", IN_PROCESS),
    ("Analytics on Flink", FLINK),
    ("The coordinator", COORDINATOR),
    ("The coordinator, in a fleet with geo workers", WITH_GEO),
)


def tables_to_markdown() -> str:
    """The tables as Markdown."""
    return "\n".join(f"### {title}\n\n{_table_to_markdown(metrics)}" for title, metrics in _PARTS)


def _table_to_markdown(metrics: Iterable[Metric]) -> str:
    rows = [
        f"| `{m.name}` | {m.kind.value} | {', '.join(m.labels)} | {m.text} |\n" for m in metrics
    ]
    return "| name | type | labels | meaning |\n|---|---|---|---|\n" + "".join(rows)


def renew_page(page: str) -> str:
    """The page with the present tables. Raises ValueError if the page has no place for them."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{tables_to_markdown()}\n{END}{after}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(renew_page(file.read_text("utf-8")), "utf-8")
