"""One stack, with two coordinators, for all modules in this folder, which leave it as they found
it: three nodes, all lanes at work."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.stack.browser import chromium
from tests.stack.conftest import Running, started


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with started(request.session, coordinators=2) as stack:
        yield stack


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started
