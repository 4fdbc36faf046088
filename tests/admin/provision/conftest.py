"""One such broker for all tests here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.admin.provision.support import Denying, fill
from tests.fixtures.kafka import folder_for_servers


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def denying() -> AsyncIterator[Denying]:
    with folder_for_servers() as folder:
        denying = Denying(folder)
        try:
            await denying.broker.start(120)
            await fill(denying)
            yield denying
        finally:
            denying.broker.kill()
