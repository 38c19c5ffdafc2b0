from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import cluster, config
from labkit.cluster import target
from tests.cluster.fake_kubectl import UID, FakeKubectl


def chosen(kubeconfig: Path, context: str = "") -> cluster.Chosen:
    """A target as `cluster.use` makes one, where nobody answers who could be asked."""
    server = "https://127.255.255.254:6443"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    kubeconfig.write_text(json.dumps(content))
    return cluster.Chosen(cluster.Target(str(kubeconfig), context), context or "here", server, UID, kubeconfig)


@pytest.fixture
def as_before() -> Iterator[None]:
    """The target, and what is in the environment for it, are afterwards what they were."""
    variables = {name: os.environ.get(name) for name in ("KUBECONFIG", "LABKIT_KUBECONFIG")}
    state, settled = target._state, target._settled
    yield
    target._set(target._NOTHING_YET)
    target._state, target._settled = state, settled
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture
def kubectl(as_before: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKubectl:
    """A fake kubectl, for a target of the test's own."""
    home = tmp_path / "fake"
    home.mkdir()
    fake = FakeKubectl(home)
    monkeypatch.setattr(config, "tool", lambda name: fake.path)
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "labkit"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    target._state = chosen(tmp_path / "kubeconfig")
    return fake


@pytest.fixture
def unreachable(as_before: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cluster.Target:
    """A target where nobody listens, for the real kubectl."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "labkit"))
    target._state = chosen(tmp_path / "kubeconfig")
    return target._state.named
