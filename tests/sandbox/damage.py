# SPDX-License-Identifier: Apache-2.0
"""Ways in which small files of a sandbox are damaged, and what must be so of it afterwards."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from meshbox.reach import access
from tests.conftest import SandboxUnderTest

DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "zero bytes": lambda _: b"",
    "garbage": lambda _: bytes(range(256)) * 4,
    "truncated": lambda content: content[: len(content) // 2],
    "wrong version": lambda _: b'{"apiVersion": "v9", "format": 99, "state": 7, "pid": "x"}\n',
    "missing": lambda _: None,
}


def files_of(sandbox: SandboxUnderTest) -> list[str]:
    """The small files of state of a sandbox that has been up, by their names in its folder."""
    server = f"server-{sandbox.node}.pem"
    return [
        *("token", "identity", "number", "release", "state.json", "kubeconfig", "ca.crt", "ca.key", server),
        *("mesh/ca-key.pem", "mesh/ca-cert.pem", "up.lock", "daemon.lock", "dns.json"),
    ]


def damage(path: Path, how: str) -> None:
    """Damage a file."""
    content = DAMAGES[how](path.read_bytes())
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def asked(sandbox: SandboxUnderTest, authorization: str | None) -> int:
    """Status of a request to the API with an Authorization header; the server must be the one its files tell of."""
    found = access(sandbox.kubeconfig)
    context = ssl.create_default_context(cafile=str(sandbox.home / "ca.crt"))
    url = f"https://{found.node}:{found.port}/api/v1/namespaces"
    headers = {} if authorization is None else {"Authorization": authorization}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=context, timeout=60) as got:
            return int(got.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def is_sound(sandbox: SandboxUnderTest) -> None:
    """The sandbox runs, lets in who has the token and nobody else, and has its objects."""
    status = json.loads(sandbox.labkit("status", "--name", sandbox.name, "--json").stdout)
    assert status["state"] == "running", status
    token = (sandbox.home / "token").read_text()
    assert len(token) >= 43
    assert asked(sandbox, f"Bearer {token}") == 200
    assert {asked(sandbox, one) for one in ("Bearer", "Bearer ", "Bearer  ", f"Bearer {token[:-1]}")} == {401}
    # Who shows nothing is anonymous, and may not read this.
    assert asked(sandbox, None) == 403
    kept = sandbox.kubectl("get", "configmap", "note", "-o", "jsonpath={.data.a}").stdout
    assert kept == "1"


def after_damage(sandbox: SandboxUnderTest, name: str, how: str) -> str:
    """Damage a file of a stopped sandbox and start it: it is sound, or says why not. Returns what it said, or ""."""
    assert sandbox.labkit("down", "--name", sandbox.name).returncode == 0
    damage(sandbox.home / name, how)
    status = sandbox.labkit("status", "--name", sandbox.name)
    assert "running" not in status.stdout
    up = sandbox.labkit("up", "--name", sandbox.name)
    said = up.stdout + up.stderr + status.stderr
    assert "Traceback" not in said, said
    if up.returncode == 0:
        is_sound(sandbox)
        return ""
    assert up.returncode == 1
    assert "→" in up.stderr, up.stderr
    status = sandbox.labkit("status", "--name", sandbox.name)
    assert "running" not in status.stdout
    return up.stderr
