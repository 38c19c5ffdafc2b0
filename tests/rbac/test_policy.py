# SPDX-License-Identifier: Apache-2.0
"""Roles and bindings: who may do what, asked of the rules themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshbox.addresses import AddressPlan
from meshbox.api.objects import ObjectStore
from meshbox.api.paths import target_of
from meshbox.contracts import ApiError
from meshbox.rbac import escalation
from meshbox.rbac.asked import acting, attributes, forbidden
from meshbox.rbac.policy import CLUSTER_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Attributes, Authorizer
from meshbox.rbac.users import ADMIN, ANONYMOUS, user_of
from meshbox.settings import SandboxSettings
from tests.conftest import TOKEN

GROUP = "rbac.authorization.k8s.io"
ROBOT = user_of("system:serviceaccount:default:robot")
JANE = user_of("jane")


def rule(verbs: str, resources: str, group: str = "", **more: Any) -> dict[str, Any]:
    return {"verbs": verbs.split(), "apiGroups": [group], "resources": resources.split(), **more}


@pytest.fixture
def objects(tmp_path: Path) -> Any:
    (tmp_path / "home").mkdir()
    store = ObjectStore(SandboxSettings("test", tmp_path / "home", "1.30.3", AddressPlan(77), TOKEN))
    yield store
    store.close()


def grant(objects: ObjectStore, rules: list[dict[str, Any]], subject: dict[str, Any], *, whole: bool = False) -> None:
    """A role with `rules` for `subject`, in namespace default or in the whole cluster."""
    name = f"r{objects.store.version}"
    kind = "ClusterRole" if whole else "Role"
    objects.create(CLUSTER_ROLES if whole else ROLES, {"metadata": {"name": name}, "rules": rules})
    reference = {"apiGroup": GROUP, "kind": kind, "name": name}
    binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    objects.create(CLUSTER_BINDINGS if whole else ROLE_BINDINGS, binding)


def account(name: str = "robot") -> dict[str, Any]:
    return {"kind": "ServiceAccount", "name": name, "namespace": "default"}


def test_a_role_counts_in_its_namespace_only(objects: ObjectStore) -> None:
    grant(objects, [rule("get list", "pods pods/log")], account())
    may = Authorizer(objects)
    decision = may.decide(ROBOT, Attributes("list", "", "pods", namespace="default"))
    assert decision.allowed
    assert decision.reason.startswith('RBAC: allowed by RoleBinding "')
    assert decision.reason.endswith('to ServiceAccount "robot/default"')
    assert may.decide(ROBOT, Attributes("get", "", "pods", "log", "default", "p")).allowed
    for asked in (
        Attributes("list", "", "pods", namespace="kube-system"),
        Attributes("list", "", "pods"),
        Attributes("delete", "", "pods", namespace="default", name="p"),
        Attributes("list", "apps", "pods", namespace="default"),
        Attributes("get", "", "pods", "exec", "default", "p"),
    ):
        assert not may.decide(ROBOT, asked).allowed, asked
    assert not may.decide(user_of("system:serviceaccount:default:other"), Attributes("list", "", "pods")).allowed


def test_names_groups_stars_and_paths(objects: ObjectStore) -> None:
    grant(objects, [rule("get", "secrets", resourceNames=["one"])], {"kind": "User", "name": "jane"}, whole=True)
    grant(objects, [rule("*", "*/scale", "apps")], {"kind": "Group", "name": "ops"}, whole=True)
    grant(objects, [{"verbs": ["get"], "nonResourceURLs": ["/logs/*"]}], {"kind": "User", "name": "jane"}, whole=True)
    may = Authorizer(objects)
    assert may.decide(JANE, Attributes("get", "", "secrets", namespace="x", name="one")).allowed
    assert not may.decide(JANE, Attributes("get", "", "secrets", namespace="x", name="two")).allowed
    assert not may.decide(JANE, Attributes("list", "", "secrets", namespace="x")).allowed
    ops = user_of("kim", ["ops"])
    assert may.decide(ops, Attributes("patch", "apps", "deployments", "scale", "x", "web")).allowed
    assert not may.decide(ops, Attributes("patch", "apps", "deployments", "", "x", "web")).allowed
    assert may.decide(JANE, Attributes("get", path="/logs/a")).allowed
    assert not may.decide(JANE, Attributes("get", path="/metrics")).allowed


def test_what_everybody_and_nobody_may(objects: ObjectStore) -> None:
    may = Authorizer(objects)
    assert may.decide(ADMIN, Attributes("delete", "x.example.com", "anything", namespace="x", name="y")).allowed
    assert may.decide(JANE, Attributes("get", path="/apis/apps/v1")).allowed
    assert may.decide(JANE, Attributes("create", "authorization.k8s.io", "selfsubjectaccessreviews")).allowed
    assert may.decide(ANONYMOUS, Attributes("get", path="/version")).allowed
    assert not may.decide(ANONYMOUS, Attributes("get", path="/api")).allowed
    assert not may.decide(ANONYMOUS, Attributes("list", "", "pods", namespace="default")).allowed


@pytest.mark.parametrize(
    ("method", "path", "query", "words"),
    [
        ("GET", "/api/v1/pods", {}, 'cannot list resource "pods" in API group "" at the cluster scope'),
        ("GET", "/api/v1/namespaces/x/pods", {"watch": "1"}, 'cannot watch resource "pods" in API group "" in the'),
        ("GET", "/api/v1/namespaces/x/pods/p/log", {}, 'cannot get resource "pods/log" in API group "" in the'),
        ("GET", "/api/v1/namespaces/x/pods/p/exec", {}, 'cannot create resource "pods/exec" in API group "" in the'),
        ("DELETE", "/apis/apps/v1/namespaces/x/deployments", {}, 'cannot deletecollection resource "deployments" in'),
        ("PATCH", "/apis/apps/v1/namespaces/x/deployments/w", {}, 'deployments.apps "w" is forbidden: User "jane"'),
        ("GET", "/api/v1/namespaces/x", {}, 'namespaces "x" is forbidden: User "jane" cannot get resource'),
        ("GET", "/api", {}, 'forbidden: User "jane" cannot get path "/api"'),
    ],
)
def test_a_refusal_says_what_was_asked(method: str, path: str, query: dict[str, str], words: str) -> None:
    assert words in forbidden(JANE, attributes(method, path, target_of(path), query)).message


def test_to_ask_as_another_is_a_right(objects: ObjectStore) -> None:
    may = Authorizer(objects)
    assert acting(ADMIN, {}, [], may) is ADMIN
    assert acting(ADMIN, {"Impersonate-User": "jane"}, ["ops"], may).groups == ("ops", "system:authenticated")
    robot = acting(ADMIN, {"Impersonate-User": ROBOT.name}, [], may)
    assert robot == ROBOT
    assert ROBOT.groups == ("system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated")
    with pytest.raises(ApiError) as caught:
        acting(JANE, {"Impersonate-User": "kim"}, [], may)
    said = 'users "kim" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster'
    assert caught.value.message.startswith(said)
    with pytest.raises(ApiError) as caught:
        acting(ADMIN, {}, ["ops"], may)
    assert caught.value.code == 400


def test_nobody_grants_what_he_has_not(objects: ObjectStore) -> None:
    grant(objects, [rule("create update", "roles", GROUP), rule("get list", "pods")], {"kind": "User", "name": "jane"})
    may = Authorizer(objects)
    asked = Attributes("create", GROUP, "roles", namespace="default", name="new")
    escalation.check(JANE, asked, may, {"metadata": {"name": "new"}, "rules": [rule("get", "pods")]})
    wanted = [rule("get delete", "pods"), rule("get", "secrets")]
    with pytest.raises(ApiError) as caught:
        escalation.check(JANE, asked, may, {"metadata": {"name": "new"}, "rules": wanted})
    assert caught.value.code == 403
    assert caught.value.message == (
        'roles.rbac.authorization.k8s.io "new" is forbidden: user "jane" (groups=["system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n'
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'
    )
    grant(objects, [rule("escalate", "roles", GROUP)], {"kind": "User", "name": "jane"})
    escalation.check(JANE, asked, may, {"metadata": {"name": "new"}, "rules": [rule("get", "secrets")]})
