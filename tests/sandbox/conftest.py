# SPDX-License-Identifier: Apache-2.0
"""A sandbox for the modules that inject faults: all its parts in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from meshbox.blocks import claim
from meshbox.daemon import Sandbox
from meshbox.settings import SandboxSettings
from tests.conftest import TOKEN

from .faults import World


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    home = tmp_path_factory.mktemp("sandbox")
    plan, held = claim(home)
    with held:
        sandbox = Sandbox(SandboxSettings("test", home, "1.30.3", plan, TOKEN, loadbalancer=True))
        await sandbox.start()
        try:
            yield World(sandbox)
        finally:
            await sandbox.stop()
            asyncio.get_running_loop().set_exception_handler(None)
