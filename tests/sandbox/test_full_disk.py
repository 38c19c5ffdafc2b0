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
mount -t tmpfs -o size={size} none {home}
ip link set lo up
cd {home}
labkit="{python} -m labkit"
run() {{ "$@" 2>&1 | head -c 4000 || true; }}
echo "== first"; run $labkit up --release 1.30.3
echo "== status"; run $labkit status
echo "== token"; stat -c %s sandboxes/default/token 2>/dev/null || echo none
mount -o remount,size=64m {home}
echo "== second"; run $labkit up --release 1.30.3
echo "== status"; run $labkit status
echo "== token"; stat -c %s sandboxes/default/token
export KUBECONFIG={home}/sandboxes/default/kubeconfig HOME={home}
server=$({kubectl} config view -o 'jsonpath={{.clusters[0].cluster.server}}')
echo "== empty"; curl -sk -o /dev/null -w '%{{http_code}}\\n' -H 'Authorization: Bearer ' "$server/api/v1/secrets"
echo "== right"; {kubectl} get namespace default -o name
$labkit down --delete >/dev/null
"""


@pytest.mark.parametrize("size", ["8k", "24k", "40k"])
def test_a_disk_full_at_the_first_start(tmp_path: Path, size: str) -> None:
    if subprocess.run(["unshare", "-rmn", "true"], capture_output=True).returncode:
        pytest.skip("this machine has no namespaces for its users")
    script = SCRIPT.format(size=size, home=shlex.quote(str(tmp_path)), python=sys.executable, kubectl=BIN / "kubectl")
    environment = {**os.environ, "LABKIT_HOME": str(tmp_path)}
    done = subprocess.run(
        ["unshare", "-rmnpf", "--mount-proc", "bash", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
    )
    parts = dict(enumerate(done.stdout.split("== ")))
    said = {index: text.partition("\n") for index, text in parts.items() if text}
    first, status, token, second, later, whole, empty, right = (said[index][2] for index in range(1, 9))
    assert "Traceback" not in done.stdout + done.stderr, done.stdout
    assert "No space left on device" in first
    assert "→" in first
    assert "running" not in status
    assert token.strip() in ("none", "43")
    assert "is running" in second
    assert "default: running" in later
    assert whole.strip() == "43"
    assert empty.strip() == "401"
    assert right.strip() == "namespace/default"
