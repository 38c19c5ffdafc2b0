# SPDX-License-Identifier: Apache-2.0
"""A disk that is full at the first start: nothing starts with half a secret, and with room again all is well."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BIN

# Each line of what is printed: what was done, and what came of it. The file system is there for this script only.
SCRIPT = """
set -e
mount -t tmpfs -o size=16m none {home}
cat /dev/zero >{home}/filler 2>/dev/null || true
truncate -s -{size} {home}/filler
ip link set lo up
cd {home}
labkit=({python} -m labkit)
run() {{ "$@" 2>&1 | head -c 4000 || true; }}
mkdir -p sandboxes/default
# The daemon itself: `labkit up` looks for room before it starts one, but a disk may fill up in between.
daemon=({python} -m meshbox.daemon --home {home}/sandboxes/default --name default --release 1.30.3)
echo "== first"; run timeout 240 "${{daemon[@]}}"
echo "== status"; run "${{labkit[@]}}" status
echo "== token"; stat -c %s sandboxes/default/token 2>/dev/null || echo none
rm filler
echo "== second"; run "${{labkit[@]}}" up --release 1.30.3
echo "== status"; run "${{labkit[@]}}" status
echo "== token"; stat -c %s sandboxes/default/token
export KUBECONFIG={home}/sandboxes/default/kubeconfig HOME={home}
server=$({kubectl} config view -o 'jsonpath={{.clusters[0].cluster.server}}')
echo "== empty"; curl -sk -o /dev/null -w '%{{http_code}}\\n' -H 'Authorization: Bearer ' "$server/api/v1/secrets"
echo "== right"; {kubectl} get namespace default -o name
"${{labkit[@]}}" down --delete >/dev/null
"""


@pytest.mark.parametrize("size", ["8k", "32k"])
def test_a_disk_full_at_the_first_start(tmp_path: Path, size: str) -> None:
    first_start(tmp_path, size)


def first_start(home: Path, size: str, *, may_work: bool = False) -> None:
    """Start a sandbox in `home` with `size` left on its disk, then with room.

    Args:
        home: An empty folder; a small file system is laid over it.
        size: Such as "8k".
        may_work: Whether so much may be enough.
    """
    if subprocess.run(["unshare", "-rmn", "true"], capture_output=True).returncode:
        pytest.skip("this machine has no namespaces for its users")
    python, kubectl = shlex.quote(sys.executable), shlex.quote(str(BIN / "kubectl"))
    script = SCRIPT.format(size=size, home=shlex.quote(str(home)), python=python, kubectl=kubectl)
    done = subprocess.run(
        ["unshare", "-rmnpf", "--mount-proc", "bash", "-c", script],
        env={**os.environ, "LABKIT_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=580,
    )
    said = done.stdout + done.stderr
    parts = [part.partition("\n")[2].strip() for part in done.stdout.split("== ")[1:]]
    assert len(parts) == 8, said
    first, status, token, second, later, whole, empty, right = parts
    assert "Traceback" not in said, said
    if not (may_work and "up in" in first):
        assert "No space left on device" in first, said
        assert "running" not in status
    assert token in ("none", "43")
    assert "is running" in second
    assert "default: running" in later
    assert (whole, empty, right) == ("43", "401", "namespace/default"), said
