# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.streams.streams_server import Server, certificate

SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    folder = tmp_path_factory.mktemp("authority")
    context = certificate(folder)
    return folder / "cert.pem", context


@pytest.fixture
def server(tmp_path: Path, authority: tuple[Path, ssl.SSLContext]) -> Iterator[Server]:
    server = Server(tmp_path, authority[1], authority[0])
    yield server
    server.close()


@pytest.fixture(scope="session")
def kubectl_path() -> str:
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed")
    return found


@pytest.fixture
def environment(server: Server, tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(server.kubeconfig)}


@pytest.fixture(params=["websocket", "spdy"])
def transport(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment that makes kubectl stream over a WebSocket, or as kubectl up to 1.29 does."""
    return SPDY if request.param == "spdy" else {}


Kubectl = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def kubectl(kubectl_path: str, environment: dict[str, str], transport: dict[str, str]) -> Kubectl:
    def run(*arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [kubectl_path, *arguments], env=environment | transport, input=input, capture_output=True, timeout=PATIENCE
        )

    return run
