# SPDX-License-Identifier: Apache-2.0
"""What tests have changed in a sandbox is put back: object by object, and with its pods."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from labkit.istio import release
from tests import restoring
from tests.conftest import SandboxUnderTest, wait_until
from tests.restoring import put_back
from tests.written import written

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: one, labels: {{made: {made}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web, made: {made}}}}}
    spec: {{containers: [{{name: web, image: "nginx"}}]}}
---
"""
THERE = """
apiVersion: v1
kind: Namespace
metadata: {name: one}
---
apiVersion: v1
kind: Namespace
metadata: {name: two, labels: {team: first}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: words, namespace: one}
data: {a: first}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: one}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
"""
MORE = """
apiVersion: v1
kind: Namespace
metadata: {name: three}
---
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: three}
stringData: {a: b}
---
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: narrow, namespace: one}
spec: {egress: [{hosts: ["./*"]}]}
"""


def test_what_came_went_or_was_changed_is_put_back(
    start_sandbox: Callable[..., SandboxUnderTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = start_sandbox("1.30.3")
    sandbox.kubectl("apply", "-f", "-", stdin=THERE + DEPLOYMENT.format(made="first", replicas=1))
    sandbox.kubectl("rollout", "status", "deployment/web", "-n", "one", "--timeout=120s")
    before = written(sandbox)
    put_back(sandbox, before)
    assert written(sandbox) == before

    for file in release("1.30.3").crd_files:
        sandbox.kubectl("apply", "-f", str(file))
    sandbox.kubectl("apply", "-f", "-", stdin=MORE + RULE + DEPLOYMENT.format(made="again", replicas=2))
    sandbox.kubectl("label", "namespace", "two", "team=second", "other=label", "--overwrite")
    sandbox.kubectl("delete", "configmap/words", "service/web", "-n", "one")
    assert written(sandbox) != before
    put_back(sandbox, before)
    assert written(sandbox) == before
    wait_until(lambda: pods_made(sandbox) == ["first"], what="the pods of the old template, and so many")

    # What cannot become so is named.
    monkeypatch.setattr(restoring, "wait_until", look_once)
    sandbox.kubectl("scale", "deployment", "web", "-n", "one", "--replicas=3")
    with pytest.raises(
        AssertionError, match="the mesh to be what it was: /apis/apps/v1/namespaces/one/deployments/web"
    ):
        put_back(sandbox, before)


def pods_made(sandbox: SandboxUnderTest) -> list[str]:
    """Of which template each pod is; one that ends is still listed."""
    listed = sandbox.kubectl("get", "pods", "-n", "one", "-o", "jsonpath={.items[*].metadata.labels.made}")
    return listed.stdout.split()


def look_once(condition: Callable[[], bool], what: str) -> None:
    if not condition():
        raise AssertionError(what)
