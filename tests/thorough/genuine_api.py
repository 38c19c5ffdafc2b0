# SPDX-License-Identifier: Apache-2.0
"""A genuine kube-apiserver, built from its modules where Go has them at hand, with the etcd of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.conftest import wait_until
from tests.ports import kept_port

__all__ = ["GenuineApi", "genuine_api", "needs_server"]

SOURCE = Path(__file__).parent / "kubernetes_oracle"
PATIENCE = 240

needs_server = pytest.mark.skipif(
    shutil.which("go") is None or shutil.which("etcd") is None, reason="there is no Go to build it with, or no etcd"
)


class GenuineApi:
    """Asks the server.

    Args:
        port: Its port on 127.0.0.1.
        token: The administrator's.
    """

    def __init__(self, port: int, token: str) -> None:
        self._token = token
        self._url = f"https://127.0.0.1:{port}"
        self._context = ssl.create_default_context()
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE

    def ask(self, method: str, path: str, body: Any = None, form: str = "json") -> tuple[int, Any]:
        """The status and the answer, as JSON where it is that."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": f"application/{form}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE, context=self._context) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        with contextlib.suppress(ValueError):
            return status, json.loads(text)
        return status, text.decode()

    def ready(self) -> bool:
        """Whether it is."""
        with contextlib.suppress(OSError):
            return self.ask("GET", "/readyz")[0] == 200
        return False


@contextlib.contextmanager
def genuine_api(folder: Path) -> Iterator[GenuineApi]:
    """The server, empty, until the block ends; the test is skipped where its modules are not at hand."""
    source = folder / "source"
    shutil.copytree(SOURCE, source)
    offline = {**os.environ, "GOFLAGS": "-mod=readonly", "GOPROXY": "off"}
    command = ["go", "build", "-o", str(folder / "apiserver"), "k8s.io/kubernetes/cmd/kube-apiserver"]
    made = subprocess.run(command, cwd=source, env=offline, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"the server cannot be built offline: {made.stderr[-200:]}")
    key = rsa.generate_private_key(65537, 2048)
    forms = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(*forms))
    token, tokens = secrets.token_urlsafe(), folder / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(f'{token},admin,1,"system:masters"\n')
    with contextlib.ExitStack() as stack:
        store, peers, port = (stack.enter_context(kept_port()) for _ in range(3))
        etcd = [
            *("etcd", "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync"),
            *("--listen-client-urls", f"http://127.0.0.1:{store}", "--advertise-client-urls", "http://127.0.0.1:1"),
            *("--listen-peer-urls", f"http://127.0.0.1:{peers}"),
        ]
        server = [
            *(str(folder / "apiserver"), f"--etcd-servers=http://127.0.0.1:{store}"),
            *("--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={folder / 'certificates'}"),
            *("--service-account-issuer=https://kubernetes.default.svc", f"--token-auth-file={tokens}"),
            *(f"--service-account-signing-key-file={folder / 'key.pem'}", "--service-cluster-ip-range=10.96.0.0/16"),
            *(f"--service-account-key-file={folder / 'key.pem'}", "--authorization-mode=RBAC"),
        ]
        for name, words in (("etcd", etcd), ("apiserver", server)):
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            run = stack.enter_context(subprocess.Popen(words, stdout=log, stderr=log))
            stack.callback(run.terminate)
        api = GenuineApi(port, token)
        wait_until(api.ready, PATIENCE, "the server to be ready")
        yield api
