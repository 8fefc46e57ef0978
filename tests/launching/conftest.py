"""What the tests of launching stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from office import Office
from stage import Stage

from binaries import Brood


@pytest.fixture
def stage(tmp_path: Path, models: Path) -> Iterator[Stage]:
    with Stage(tmp_path, models) as stage:
        yield stage


@pytest_asyncio.fixture
async def office(brood: Brood, models: Path) -> AsyncIterator[Office]:
    office = Office(brood, models)
    yield office
    await office.close()
