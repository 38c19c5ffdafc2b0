# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from labkit import cluster
from labkit.cluster import target, waits, watching
from labkit.ground import config
from tests.cluster.api_like import ApiLike, api_like
from tests.cluster.fake_kubectl import UID, FakeKubectl
from tests.conftest import PATIENCE

NOBODY = {"server": "https://127.255.255.254:6443"}


def chosen(kubeconfig: Path, context: str = "", entry: Mapping[str, str] = NOBODY) -> cluster.Chosen:
    """A target as `cluster.use` makes one; without an entry of a cluster, where nobody answers who could be asked."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context or "here",
        "clusters": [{"name": "c", "cluster": entry}],
        "contexts": [{"name": context or "here", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    kubeconfig.write_text(json.dumps(content))
    return cluster.Chosen(cluster.Target(str(kubeconfig), context), context or "here", entry["server"], UID, kubeconfig)


@pytest.fixture
def kubectl(as_before: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubectl]:
    """A fake kubectl, for a target of the test's own, whose API answers for itself."""
    home = tmp_path / "fake"
    home.mkdir()
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "labkit"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    # The first answer may be late on a busy machine; what is waited for afterwards has the time that a test gives.
    monkeypatch.setattr(waits, "_FIRST", PATIENCE)
    with api_like(tmp_path, UID) as api:
        fake = FakeKubectl(home, api)
        monkeypatch.setattr(config, "tool", lambda name: fake.path)
        target._state = chosen(tmp_path / "kubeconfig", entry=api.entry)
        yield fake


@pytest.fixture
def unwatched() -> Iterator[None]:
    """Commands go to kubectl with nothing beside them: no marks, and no look at whose the objects are."""
    with watching.unwatched():
        yield


@pytest.fixture
def unreachable(as_before: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cluster.Target:
    """A target where nobody listens, for the real kubectl."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "labkit"))
    target._state = chosen(tmp_path / "kubeconfig")
    return target._state.named


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiLike]:
    with api_like(tmp_path) as one:
        yield one


@pytest.fixture
def other(tmp_path: Path) -> Iterator[ApiLike]:
    with api_like(tmp_path, "uid-of-another") as one:
        yield one


@pytest.fixture
def home(as_before: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HOME whose own kubeconfig does not exist, and a LABKIT_HOME."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "labkit"))
    monkeypatch.setenv("KUBECONFIG", "")
    cluster.leave()
    return tmp_path / "labkit"


def plain_kubectl(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """kubectl as `!kubectl` and `%%bash` run it: with this process's environment."""
    program = cluster.kubectl_program()
    return subprocess.run([program, *words], env={**os.environ, **more}, capture_output=True, text=True, timeout=300)
