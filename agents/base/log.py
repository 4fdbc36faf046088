"""Logs are events, not sentences: each is one line on standard error, as JSON, or as words on a
terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from agents.base.text import to_printable

SECRET_KEYS = frozenset({"password", "secret", "token", "authorization"})


def _hide_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    for key in SECRET_KEYS & event.keys():
        event[key] = "***"
    return event


def _fit_for_terminals(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Text from others must not move the cursor or reverse the text. JSON escapes all of it
    anyway."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = to_printable(value)
    return event


class RateLimit(logging.Filter):
    """Lets each message template of a noisy library through at most once in `every_s` seconds
    (PROTOCOL 3.4)."""

    def __init__(self, every_s: float = 10.0) -> None:
        super().__init__()
        self.every_s = every_s
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = f"{record.name}:{record.levelno}:{record.msg}"
        if record.created - self._last.get(key, 0.0) < self.every_s:
            return False
        if len(self._last) > 1000:
            self._last.clear()
        self._last[key] = record.created
        return True


def is_news(record: logging.LogRecord) -> bool:
    """Whether to log it. slixmpp logs an error with a traceback if a name is taken, but that is
    only how a standby learns that another process leads."""
    error = record.exc_info[1] if record.exc_info else None
    return not (
        record.name.startswith("slixmpp.") and getattr(error, "condition", "") == "conflict"
    )


def setup(process: str, level: str = "INFO") -> None:
    """Set up logging for this process, once. `process` is in every line. Records of libraries take
    the same form."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
    ]
    renderers: list[Any] = [structlog.processors.JSONRenderer()]
    if sys.stderr.isatty():
        renderers = [_fit_for_terminals, structlog.dev.ConsoleRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *renderers,
            ],
        )
    )
    handler.addFilter(is_news)
    handler.addFilter(RateLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("geolane").setLevel(level)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger `geolane.NAME`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(f"geolane.{name}")
    return logger
