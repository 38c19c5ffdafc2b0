# SPDX-License-Identifier: Apache-2.0
"""A node in a process of its own, for tests that kill it: ``python -m tests.node.run_node HOME SCRIPT [SCRIPT …]``.

Creates a pod for each shell script unless the store has it already, and writes one JSON line when all are ready.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.node.conftest import running


async def main(home: Path, scripts: list[str]) -> None:
    os.umask(0o077)
    async with running(home) as cluster:
        names = [f"web-{number}" for number in range(len(scripts))]
        for name, script in zip(names, scripts, strict=True):
            if cluster.gone(name):
                cluster.shell(script, name=name)
        for name in names:
            await cluster.until(lambda name=name: cluster.ready(name), name)
        pods = {name: cluster.objects.get("pods", name, "default") for name in names}
        print(json.dumps({"uid": os.getuid(), "low": cluster.settings.plan.low_ports, "pods": pods}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
