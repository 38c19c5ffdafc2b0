# SPDX-License-Identifier: Apache-2.0
"""What a Kubernetes 1.35.4 has and says before anybody has made anything."""

from __future__ import annotations

import json

import pytest

from .conftest import MAPS, PODS, Cluster, config_map, crd, pod


class TestRoles:
    RBAC = "rbac.authorization.k8s.io"

    async def test_there_are_those_of_each_cluster(self, cluster: Cluster) -> None:
        kinds = ("clusterroles", "clusterrolebindings", "roles", "rolebindings")
        assert [len(cluster.objects.list(f"{kind}.{self.RBAC}")) for kind in kinds] == [68, 49, 7, 7]
        shown = (await cluster.kubectl("get", "clusterroles", "-o", "name")).out.splitlines()
        assert f"clusterrole.{self.RBAC}/system:controller:ttl-after-finished-controller" in shown
        bound = (await cluster.kubectl("get", "rolebinding", "-n", "kube-system", "-o", "wide", "--no-headers")).out
        assert bound.splitlines()[0].split() == [
            *("system::extension-apiserver-authentication-reader", "Role/extension-apiserver-authentication-reader"),
            *(bound.split()[2], "system:kube-controller-manager,", "system:kube-scheduler"),
        ]

    def test_rules_say_to_what_they_are_bound(self, cluster: Cluster) -> None:
        rules = cluster.objects.get(f"clusterroles.{self.RBAC}", "system:kube-scheduler")["rules"]
        named = [rule for rule in rules if rule.get("resourceNames")]
        assert named[0] == {
            "apiGroups": ["coordination.k8s.io"],
            "resourceNames": ["kube-scheduler"],
            "resources": ["leases"],
            "verbs": ["get", "list", "update", "watch"],
        }
        node = cluster.objects.get(f"clusterrolebindings.{self.RBAC}", "system:node")
        assert (node.get("subjects"), node["roleRef"]["name"]) == (None, "system:node")
        account = cluster.objects.get(f"clusterrolebindings.{self.RBAC}", "system:kube-dns")["subjects"]
        assert account == [{"kind": "ServiceAccount", "name": "kube-dns", "namespace": "kube-system"}]

    def test_who_may_edit_may_see_events_by_either_name(self, cluster: Cluster) -> None:
        view = cluster.objects.get(f"clusterroles.{self.RBAC}", "system:aggregate-to-view")["rules"]
        verbs = ["get", "list", "watch"]
        assert {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": verbs} in view


class TestDiscovery:
    async def test_groups_come_in_the_order_in_which_kubectl_looks(self, cluster: Cluster) -> None:
        names = [group["name"] for group in (await cluster.request("GET", "/apis")).body["groups"]]
        assert names[:7] == [
            *("apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io"),
            *("autoscaling", "batch"),
        ]
        assert names[-3:] == ["discovery.k8s.io", "resource.k8s.io", "flowcontrol.apiserver.k8s.io"]

    @pytest.mark.parametrize(
        ("path", "name", "kept"),
        [
            ("/apis/apps/v1", "deployments", "8aSe+NMegvE="),
            ("/apis/autoscaling/v1", "horizontalpodautoscalers", "qwQve8ut294="),
            ("/apis/events.k8s.io/v1", "events", "r2yiGXH7wu8="),
            ("/api/v1", "pods", "xPOwRZ+Yhw8="),
            ("/api/v1", "pods/status", None),
            ("/api/v1", "componentstatuses", None),
            ("/apis/authorization.k8s.io/v1", "subjectaccessreviews", None),
        ],
    )
    async def test_a_hash_tells_how_objects_are_kept(
        self, cluster: Cluster, path: str, name: str, kept: str | None
    ) -> None:
        found = (await cluster.request("GET", path)).body
        assert ("apiVersion" in found) == path.startswith("/apis/")
        assert [one.get("storageVersionHash") for one in found["resources"] if one["name"] == name] == [kept]

    async def test_an_apiservice_tells_the_place_of_its_group(self, cluster: Cluster) -> None:
        ask = "-o=jsonpath={.spec.groupPriorityMinimum}/{.spec.versionPriority}"
        for name, place in (("v1.", "18000/1"), ("v2.autoscaling", "17500/30"), ("v1.batch", "17400/15")):
            assert (await cluster.kubectl("get", "apiservice", name, ask)).out == place

    async def test_the_version_is_for_people_to_read(self, cluster: Cluster) -> None:
        text = (await cluster.request("GET", "/version")).text
        assert text.startswith('{\n  "major": "1",\n  "minor": "35",\n')

    @pytest.mark.parametrize(
        ("path", "code"),
        [("/readyz/nope", 404), ("/readyz/ping", 200), ("/livez/poststarthook/rbac/bootstrap-roles", 200)],
    )
    async def test_a_check_that_there_is_not_is_not_well(self, cluster: Cluster, path: str, code: int) -> None:
        assert (await cluster.request("GET", path)).status == code


class TestLists:
    async def test_what_is_listed_has_the_kind_of_the_list(self, cluster: Cluster) -> None:
        cluster.objects.create("configmaps", config_map("a"))
        text = (await cluster.request("GET", MAPS)).text
        assert text.partition('"items":[')[2].startswith('{"metadata":{"name":"a",')
        cluster.objects.create("customresourcedefinitions.apiextensions.k8s.io", crd())
        cluster.objects.create("widgets.example.com", {"metadata": {"name": "w"}})
        (widget,) = (await cluster.request("GET", "/apis/example.com/v1/widgets")).body["items"]
        assert (widget["kind"], widget["apiVersion"]) == ("Widget", "example.com/v1")

    async def test_a_pod_is_read_by_its_resize_though_it_is_not_resized(self, cluster: Cluster) -> None:
        cluster.objects.create("pods", pod())
        assert (await cluster.request("GET", f"{PODS}/web/resize")).body["metadata"]["name"] == "web"
        assert (await cluster.request("PATCH", f"{PODS}/web/resize", {})).status == 403

    @pytest.mark.parametrize(
        ("path", "field", "count"),
        [
            ("/apis/events.k8s.io/v1/events", "regarding.kind=Pod,reportingController=me,type=Normal", 1),
            ("/apis/events.k8s.io/v1/events", "regarding.name!=web", 0),
            ("/apis/events.k8s.io/v1/events", "involvedObject.kind=Pod", None),
            ("/api/v1/events", "involvedObject.kind=Pod,reportingComponent=me", 1),
            ("/api/v1/events", "regarding.kind=Pod", None),
        ],
    )
    async def test_events_are_selected_by_the_fields_of_their_version(
        self, cluster: Cluster, path: str, field: str, count: int | None
    ) -> None:
        about = {"kind": "Pod", "name": "web", "namespace": "default"}
        event = {"metadata": {"name": "e"}, "involvedObject": about, "type": "Normal", "reportingComponent": "me"}
        cluster.objects.create("events", event)
        reply = await cluster.request("GET", path, params={"fieldSelector": field})
        if count is None:
            assert (reply.status, reply.body["message"]) == (400, f"field label not supported: {field.split('=')[0]}")
        else:
            assert len(json.loads(reply.text)["items"]) == count


class TestExplain:
    async def test_types_have_kubernetes_names(self, cluster: Cluster) -> None:
        said = (await cluster.kubectl("explain", "pod.spec.containers.livenessProbe.httpGet")).out
        assert "  port\t<IntOrString> -required-" in said
        # Younger than 1.35.
        assert "protocol" not in said
        limits = (await cluster.kubectl("explain", "pod.spec.containers.resources.limits")).out
        assert "FIELD: limits <map[string]Quantity>" in limits

    @pytest.mark.parametrize(
        ("path", "needed"),
        [("hpa", {"spec": False}), ("endpointslice", {"endpoints": True}), ("pc", {"value": True})],
    )
    async def test_what_must_be_there(self, cluster: Cluster, path: str, needed: dict[str, bool]) -> None:
        lines = [line.split() for line in (await cluster.kubectl("explain", path)).out.splitlines()]
        fields = {line[0]: "-required-" in line for line in lines if line[1:2] and line[1].startswith("<")}
        assert {name: fields.get(name, False) for name in needed} == needed

    async def test_a_field_that_came_later_is_unknown(self, cluster: Cluster) -> None:
        probe = {"httpGet": {"port": 80, "protocol": "HTTP2"}}
        obj = pod(containers=[{"name": "web", "image": "nginx", "readinessProbe": probe}])
        reply = await cluster.request("POST", f"{PODS}?fieldValidation=Strict", obj)
        where = "spec.containers[0].readinessProbe.httpGet.protocol"
        assert (reply.status, f'strict decoding error: unknown field "{where}"' in reply.body["message"]) == (400, True)
