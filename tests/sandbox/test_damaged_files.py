# SPDX-License-Identifier: Apache-2.0
"""Small files of a sandbox are damaged: it works all the same, with the same objects, and lets nobody in.

All files with all damages are in tests/thorough.
"""

from __future__ import annotations

import json

import pytest

from tests.conftest import SandboxUnderTest

from .damage import after_damage, asked, damage, files_of, is_sound


@pytest.fixture(scope="module")
def sandbox(start_shared_sandbox) -> SandboxUnderTest:
    started: SandboxUnderTest = start_shared_sandbox("1.2.2", name="damaged")
    started.kubectl("create", "configmap", "note", "--from-literal=a=1")
    return started


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("token", "zero bytes"),
        ("token", "truncated"),
        ("number", "garbage"),
        ("state.json", "truncated"),
        ("state.json", "wrong version"),
        ("kubeconfig", "zero bytes"),
        ("ca.crt", "missing"),
        ("ca.key", "garbage"),
        ("mesh/ca-key.pem", "truncated"),
        ("mesh/ca-cert.pem", "zero bytes"),
    ],
)
def test_a_stopped_sandbox_with_a_damaged_file_works(sandbox: SandboxUnderTest, name: str, how: str) -> None:
    assert after_damage(sandbox, name, how) == ""


def test_all_files_of_state_at_once(sandbox: SandboxUnderTest) -> None:
    assert sandbox.labkit("down", "--name", "damaged").returncode == 0
    for name in files_of(sandbox):
        if name != "release":
            damage(sandbox.home / name, "zero bytes")
    up = sandbox.labkit("up", "--name", "damaged")
    assert up.returncode == 0, up.stderr
    is_sound(sandbox)


def test_the_release_is_not_guessed(sandbox: SandboxUnderTest) -> None:
    """Both files that tell it are lost: objects of one release are never played as the other's."""
    assert sandbox.labkit("down", "--name", "damaged").returncode == 0
    for name in ("release", "state.json"):
        damage(sandbox.home / name, "garbage")
    up = sandbox.labkit("up", "--name", "damaged")
    assert up.returncode == 1
    assert "the objects of sandbox 'damaged' are of Istio 1.2.2, not 1.30.3" in up.stderr
    assert "→ labkit up --name damaged --release 1.2.2" in up.stderr
    up = sandbox.labkit("up", "--name", "damaged")
    assert up.returncode == 0, up.stderr
    is_sound(sandbox)


@pytest.mark.parametrize("name", ["token", "state.json", "kubeconfig", "ca.crt", "mesh/ca-key.pem"])
def test_a_file_that_is_damaged_meanwhile_is_written_again(sandbox: SandboxUnderTest, until, name: str) -> None:
    path = sandbox.home / name
    before = path.read_bytes()
    pid = json.loads(sandbox.labkit("status", "--name", "damaged", "--json").stdout)["pid"]
    for how in ("zero bytes", "garbage", "missing"):
        damage(path, how)
        again = sandbox.labkit("up", "--name", "damaged")
        assert again.returncode == 0, again.stderr
        until(lambda: path.exists() and path.read_bytes() == before, 10, f"{name} as it was")
    is_sound(sandbox)
    assert json.loads(sandbox.labkit("status", "--name", "damaged", "--json").stdout)["pid"] == pid
    assert f"{path} was damaged: it was written again" in (sandbox.home / "daemon.log").read_text()


def looked_at(sandbox: SandboxUnderTest, until) -> None:
    """Wait until the sandbox has looked at all its files: one that is gone is back at the second look."""
    damage(sandbox.home / "token", "missing")
    until(lambda: (sandbox.home / "token").exists(), what="a round of looking at all files")


def test_what_kubectl_changes_in_the_kubeconfig_stays(sandbox: SandboxUnderTest, until) -> None:
    sandbox.kubectl("config", "set-context", "--current", "--namespace=bookinfo")
    looked_at(sandbox, until)
    assert sandbox.kubectl("config", "view", "--minify", "-o", "jsonpath={..namespace}").stdout == "bookinfo"
    status = json.loads(sandbox.labkit("status", "--name", "damaged", "--json").stdout)
    assert status["state"] == "running"
    sandbox.kubectl("config", "set-context", "--current", "--namespace=default")
    # A test that comes after this one may damage the file: by then this is its right content.
    looked_at(sandbox, until)


def test_another_token_is_nobodys(sandbox: SandboxUnderTest) -> None:
    for authorization in ("Bearer ", "Bearer \t", "Bearer ä", "Bearer x", "Basic ", "bearer", "Bearer a.b.c"):
        assert asked(sandbox, authorization.encode().decode("latin-1")) == 401
