"""A fenced producer of aiokafka leaves errors in futures of its own that nobody can take; they are
no failure of a test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest_asyncio
from aiokafka.errors import KafkaError


@pytest_asyncio.fixture(autouse=True)
async def unheard_errors_of_aiokafka() -> None:
    """Passes over asyncio's "exception was never retrieved" for errors of aiokafka, and for no
    other."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), KafkaError):
            loop.default_exception_handler(context)

    asyncio.get_running_loop().set_exception_handler(handle)
