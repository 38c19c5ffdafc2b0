from __future__ import annotations

from pathlib import Path

import pytest

from labkit import cluster, config
from labkit.cluster import target
from tests.cluster.fake_kubectl import FakeKubectl


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKubectl:
    """A fake kubectl, for a target of the test's own."""
    home = tmp_path / "fake"
    home.mkdir()
    fake = FakeKubectl(home)
    monkeypatch.setattr(config, "tool", lambda name: fake.path)
    monkeypatch.setattr(target, "_current", None)
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "labkit"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    return fake


@pytest.fixture
def unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cluster.Target:
    """A target where nobody listens, for the real kubectl."""
    path = tmp_path / "kubeconfig"
    path.write_text(
        "{apiVersion: v1, kind: Config, current-context: here, "
        'clusters: [{name: c, cluster: {server: "https://127.255.255.254:6443"}}], '
        "users: [{name: u, user: {token: t}}], contexts: [{name: here, context: {cluster: c, user: u}}]}"
    )
    monkeypatch.setattr(target, "_current", cluster.Target(str(path)))
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "labkit"))
    return cluster.Target(str(path))
