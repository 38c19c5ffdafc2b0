# SPDX-License-Identifier: Apache-2.0
"""Clients that are neither kubectl nor the official Python one: a small program of lightkube."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SandboxUnderTest

PACKAGES = ("lightkube==1.0.1",)

LIGHTKUBE = """
from lightkube import ApiError, Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap
client = Client(field_manager="lightkube")
meta = ObjectMeta(name="by-lightkube", namespace="default")
client.create(ConfigMap(metadata=meta, data={"a": "1"}))
client.apply(ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=meta, data={"a": "2"}), force=True)
print(client.get(ConfigMap, "by-lightkube").data)
print([one.metadata.name for one in client.list(Deployment)])
for kind, found in client.watch(ConfigMap, fields={"metadata.name": "by-lightkube"}):
    print(kind, found.data)
    break
client.delete(ConfigMap, "by-lightkube")
try:
    client.get(ConfigMap, "by-lightkube")
except ApiError as error:
    print(error.status.code, error.status.message)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has this client, which nothing else here needs."""
    folder = tmp_path_factory.mktemp("clients")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    found = folder / "bin" / "python"
    done = subprocess.run(
        [str(found), "-m", "pip", "install", "--quiet", *PACKAGES], capture_output=True, text=True, timeout=580
    )
    if done.returncode:
        pytest.skip(f"no package index gives {', '.join(PACKAGES)}: {done.stderr[-300:]}")
    return found


@pytest.fixture(scope="module")
def sandbox(start_shared_sandbox: Callable[..., SandboxUnderTest]) -> SandboxUnderTest:
    found = start_shared_sandbox("1.30.3")
    found.kubectl("create", "deployment", "web", "--image=nginx")
    found.kubectl("rollout", "status", "deployment/web", "--timeout=180s")
    return found


def _said(sandbox: SandboxUnderTest, python: Path, program: str) -> list[str]:
    done = subprocess.run([str(python), "-c", program], env=sandbox.env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_lightkube(sandbox: SandboxUnderTest, python: Path) -> None:
    assert _said(sandbox, python, LIGHTKUBE) == [
        "{'a': '2'}",
        "['web']",
        "ADDED {'a': '2'}",
        '404 configmaps "by-lightkube" not found',
    ]
