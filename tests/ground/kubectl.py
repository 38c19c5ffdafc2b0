# SPDX-License-Identifier: Apache-2.0
"""kubectl without a cluster: it reads what it is told with Kubernetes' own code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

KUBECTL = str(Path(sys.executable).parent / "kubectl")


def created(*arguments: str) -> dict[str, Any]:
    """The object that `kubectl create …` would make."""
    command = [KUBECTL, "create", *arguments, "--dry-run=client", "--output=json"]
    env = {**os.environ, "KUBECONFIG": os.devnull}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def refused(*arguments: str) -> str:
    """Why `kubectl create …` makes nothing."""
    command = [KUBECTL, "create", *arguments, "--dry-run=client"]
    env = {**os.environ, "KUBECONFIG": os.devnull}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode, done.stdout
    return done.stderr.strip()
