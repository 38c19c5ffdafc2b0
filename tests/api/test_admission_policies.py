# SPDX-License-Identifier: Apache-2.0
"""ValidatingAdmissionPolicies and their bindings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import MAPS, Cluster, config_map, deployment

POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
BINDINGS = "validatingadmissionpolicybindings.admissionregistration.k8s.io"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
ALL = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
FEW = {"expression": "object.spec.replicas <= 5"}


def _policy(cluster: Cluster, *validations: dict[str, Any], bound: dict[str, Any] | None = None, **spec: Any) -> None:
    """A policy for Deployments, bound to all of them."""
    rule = {**ALL, "apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"]}
    whole = {"matchConstraints": {"resourceRules": [rule]}, "validations": list(validations), **spec}
    cluster.objects.create(POLICIES, {"metadata": {"name": "few"}, "spec": whole})
    given = {"policyName": "few", "validationActions": ["Deny"], **(bound or {})}
    cluster.objects.create(BINDINGS, {"metadata": {"name": "everywhere"}, "spec": given})


def _many(replicas: int = 6) -> dict[str, Any]:
    body = deployment()
    body["spec"]["replicas"] = replicas
    return body


async def test_a_denial_is_told_in_the_servers_words(cluster: Cluster) -> None:
    _policy(cluster, FEW)
    said = await cluster.request("POST", DEPLOYMENTS, _many())
    why = (
        "ValidatingAdmissionPolicy 'few' with binding 'everywhere' denied request: failed expression: "
        + (FEW["expression"])
    )
    assert said.status == 422
    assert said.body["reason"] == "Invalid"
    assert said.body["message"] == f'deployments.apps "web" is forbidden: {why}'
    assert said.body["details"] == {
        "name": "web", "group": "apps", "kind": "deployments", "causes": [{"message": why}],
    }  # fmt: skip
    assert (await cluster.request("POST", DEPLOYMENTS, _many(5))).status == 201
    headers = {"Content-Type": "application/merge-patch+json"}
    place = f"{DEPLOYMENTS}/web"
    assert (await cluster.request("PATCH", f"{place}/scale", {"spec": {"replicas": 6}}, headers=headers)).status == 422
    assert (await cluster.request("PATCH", place, {"spec": {"replicas": 6}}, headers=headers)).status == 422
    shown = await cluster.kubectl("scale", "deployment/web", "--replicas=9", check=False)
    assert shown.err.startswith("The deployments \"web\" is invalid: : ValidatingAdmissionPolicy 'few' with binding")


async def test_a_policy_that_nobody_binds_does_nothing(cluster: Cluster) -> None:
    _policy(cluster, FEW)
    cluster.objects.delete(BINDINGS, "everywhere")
    assert (await cluster.request("POST", DEPLOYMENTS, _many())).status == 201


@pytest.mark.parametrize(
    ("validation", "message", "code"),
    [
        ({**FEW, "message": "too many"}, "too many", 422),
        ({**FEW, "messageExpression": "'at most 5, not ' + string(object.spec.replicas)"}, "at most 5, not 6", 422),
        ({**FEW, "messageExpression": "object.spec.nowhere", "message": "too many"}, "too many", 422),
        ({**FEW, "reason": "Forbidden"}, "failed expression: object.spec.replicas <= 5", 403),
        (
            {"expression": "object.spec.nowhere > 1"},
            "expression 'object.spec.nowhere > 1' resulted in error: no such key: nowhere",
            422,
        ),
        ({"expression": "object.spec <= 5"}, "expression 'object.spec <= 5' resulted in error: no such overload", 422),
    ],
)
async def test_what_a_denial_says(cluster: Cluster, validation: dict[str, Any], message: str, code: int) -> None:
    _policy(cluster, validation)
    said = await cluster.request("POST", DEPLOYMENTS, _many())
    assert said.status == code
    assert said.body["message"].endswith(f"denied request: {message}")


async def test_an_error_may_be_ignored(cluster: Cluster) -> None:
    _policy(cluster, {"expression": "object.spec.nowhere > 1"}, failurePolicy="Ignore")
    assert (await cluster.request("POST", DEPLOYMENTS, _many())).status == 201


async def test_to_warn_is_not_to_deny(cluster: Cluster) -> None:
    _policy(cluster, {**FEW, "message": "too many"}, bound={"validationActions": ["Warn", "Audit"]})
    made = await cluster.request("POST", DEPLOYMENTS, _many())
    assert made.status == 201
    said = "Validation failed for ValidatingAdmissionPolicy 'few' with binding 'everywhere': too many"
    assert made.headers["Warning"] == f'299 - "{said}"'


async def test_variables_are_evaluated_when_they_are_named(cluster: Cluster) -> None:
    variables = [
        {"name": "count", "expression": "object.spec.replicas"},
        {"name": "twice", "expression": "variables.count * 2"},
        {"name": "broken", "expression": "object.spec.nowhere"},
    ]
    _policy(cluster, {"expression": "variables.twice < 12", "message": "twice"}, variables=variables)
    said = await cluster.request("POST", DEPLOYMENTS, _many())
    assert said.body["message"].endswith("denied request: twice")
    assert (await cluster.request("POST", DEPLOYMENTS, _many(5))).status == 201


async def test_a_variable_without_a_value(cluster: Cluster) -> None:
    variables = [{"name": "broken", "expression": "object.spec.nowhere"}]
    _policy(cluster, {"expression": "variables.broken == 1"}, variables=variables)
    said = await cluster.request("POST", DEPLOYMENTS, _many())
    assert 'composited variable "broken" fails to evaluate: ' in said.body["message"]


@pytest.mark.parametrize(
    ("spec", "bound", "denied"),
    [
        ({"matchConditions": [{"name": "a", "expression": "has(object.metadata.labels)"}]}, {}, False),
        ({"matchConditions": [{"name": "a", "expression": "request.operation == 'CREATE'"}]}, {}, True),
        ({"matchConditions": [{"name": "a", "expression": "namespaceObject.metadata.name == 'default'"}]}, {}, True),
        ({}, {"matchResources": {"namespaceSelector": {"matchLabels": {"team": "b"}}}}, False),
        ({}, {"matchResources": {"namespaceSelector": {"matchLabels": {"team": "a"}}}}, True),
        ({}, {"matchResources": {"resourceRules": [{**ALL, "operations": ["UPDATE"]}]}}, False),
        ({}, {"matchResources": {"excludeResourceRules": [{**ALL, "resourceNames": ["web"]}]}}, False),
        ({}, {"matchResources": {"excludeResourceRules": [{**ALL, "resourceNames": ["other"]}]}}, True),
    ],
)
async def test_what_a_policy_is_about(
    cluster: Cluster, spec: dict[str, Any], bound: dict[str, Any], denied: bool
) -> None:
    cluster.objects.patch("namespaces", "default", {"metadata": {"labels": {"team": "a"}}})
    _policy(cluster, FEW, bound=bound, **spec)
    said = await cluster.request("POST", DEPLOYMENTS, _many())
    assert (said.status == 422) is denied


PARAMS = {"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}
BY_PARAMS = {"expression": "object.spec.replicas <= int(params.data.most)", "message": "too many"}


async def test_parameters_by_name(cluster: Cluster) -> None:
    ref = {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}
    _policy(cluster, BY_PARAMS, bound={"paramRef": ref}, **PARAMS)
    said = await cluster.request("POST", DEPLOYMENTS, _many())
    why = "no params found for policy binding with `Deny` parameterNotFoundAction"
    assert said.body["message"].endswith(f"denied request: failed to configure binding: {why}")
    cluster.objects.create("configmaps", config_map("limits", most="5"), "default")
    said = await cluster.request("POST", DEPLOYMENTS, _many())
    assert said.body["message"].endswith("denied request: too many")
    assert (await cluster.request("POST", DEPLOYMENTS, _many(5))).status == 201


async def test_parameters_by_labels_all_count(cluster: Cluster) -> None:
    ref = {"selector": {"matchLabels": {"limits": "yes"}}, "parameterNotFoundAction": "Allow"}
    _policy(cluster, BY_PARAMS, bound={"paramRef": ref}, **PARAMS)
    assert (await cluster.request("POST", DEPLOYMENTS, _many(9))).status == 201
    for name, most in (("a", "20"), ("b", "5")):
        body = config_map(name, most=most)
        body["metadata"]["labels"] = {"limits": "yes"}
        cluster.objects.create("configmaps", body, "default")
    other = _many(6)
    other["metadata"]["name"] = "other"
    assert (await cluster.request("POST", DEPLOYMENTS, other)).status == 422
    other["spec"]["replicas"] = 5
    assert (await cluster.request("POST", DEPLOYMENTS, other)).status == 201


async def test_a_kind_of_parameters_that_is_not_served(cluster: Cluster) -> None:
    ref = {"name": "limits", "parameterNotFoundAction": "Deny"}
    kind = {"apiVersion": "example.com/v1", "kind": "Limits"}
    _policy(cluster, FEW, bound={"paramRef": ref}, paramKind=kind)
    said = await cluster.request("POST", DEPLOYMENTS, _many(1))
    why = "failed to find resource referenced by paramKind: 'example.com/v1, Kind=Limits'"
    assert said.body["message"].endswith(f"denied request: failed to configure policy: {why}")


async def test_deletes_are_judged_by_what_was_there(cluster: Cluster) -> None:
    cluster.objects.create("configmaps", config_map(keep="yes"), "default")
    rule = {**ALL, "operations": ["DELETE"], "resources": ["configmaps"]}
    kept = {"expression": "object != null || !('keep' in oldObject.data)", "message": "it is to be kept"}
    _policy(cluster, kept, matchConstraints={"resourceRules": [rule]})
    said = await cluster.request("DELETE", f"{MAPS}/settings")
    assert said.status == 422
    assert said.body["message"].endswith("denied request: it is to be kept")


async def test_what_cannot_be_evaluated_does_not_pass_and_is_said(cluster: Cluster) -> None:
    _policy(cluster, FEW)
    policy = cluster.objects.get(POLICIES, "few")
    text = "authorizer.path(object.kind).check(object.kind).allowed()"
    policy["spec"]["validations"] = [{"expression": text}, FEW]
    place = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/few"
    said = await cluster.request("PUT", place, policy)
    words = f"the sandbox cannot evaluate '{text}': what it would judge is refused"
    assert said.headers["Warning"] == f'299 - "{words}"'
    refused = await cluster.request("POST", DEPLOYMENTS, _many(5))
    assert refused.status == 422
    assert refused.body["message"].endswith(f"expression '{text}' resulted in error: the sandbox cannot evaluate it")

    policy = cluster.objects.get(POLICIES, "few")
    policy["spec"]["failurePolicy"] = "Ignore"
    said = await cluster.request("PUT", place, policy)
    assert said.headers["Warning"] == f"299 - \"the sandbox cannot evaluate '{text}': it is left out\""
    assert (await cluster.request("POST", DEPLOYMENTS, _many())).status == 422
    assert (await cluster.request("POST", DEPLOYMENTS, _many(5))).status == 201


async def test_the_gateway_apis_own_policy_lets_its_definitions_be_applied_again(
    cluster: Cluster, genuine: Callable[[str], Path]
) -> None:
    """It asks whether there was an object before: `oldObject == null`."""
    file = str(genuine("1.30.3").parent / "gateway-api-1.5.1" / "crds.yaml")
    first = await cluster.kubectl("apply", "--server-side", "-f", file)
    assert "Warning" not in first.err
    again = await cluster.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", file)
    assert "gatewayclasses.gateway.networking.k8s.io serverside-applied" in again.out
    place = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tcproutes.gateway.networking.k8s.io"
    headers = {"Content-Type": "application/merge-patch+json"}
    for channel, status in (("standard", 200), ("experimental", 422)):
        body = {"metadata": {"annotations": {"gateway.networking.k8s.io/channel": channel}}}
        assert (await cluster.request("PATCH", place, body, headers=headers)).status == status
