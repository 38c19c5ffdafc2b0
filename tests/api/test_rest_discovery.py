# SPDX-License-Identifier: Apache-2.0
"""What the HTTP server says of itself, lists, and objects in each version served."""

from __future__ import annotations

import pytest

from .conftest import CRDS, MAPS, PODS, Cluster, config_map, crd, pod

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


class TestLists:
    async def test_pages(self, cluster: Cluster) -> None:
        for index in range(5):
            cluster.objects.create("configmaps", config_map(f"m{index}"))
        first = (await cluster.request("GET", f"{MAPS}?limit=2")).body
        assert first["kind"] == "ConfigMapList"
        assert first["metadata"]["remainingItemCount"] == 3
        names, token = [one["metadata"]["name"] for one in first["items"]], first["metadata"]["continue"]
        cluster.objects.create("configmaps", config_map("later"))
        while token:
            page = (await cluster.request("GET", f"{MAPS}?limit=2&continue={token}")).body
            assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
            names += [one["metadata"]["name"] for one in page["items"]]
            token = page["metadata"].get("continue")
        assert names == ["m0", "m1", "m2", "m3", "m4"]
        reply = await cluster.request("GET", f"{MAPS}?limit=2&continue=nonsense")
        assert (reply.status, reply.body["reason"]) == (400, "BadRequest")

    async def test_all_namespaces(self, cluster: Cluster) -> None:
        cluster.objects.create("configmaps", config_map("a"), "kube-system")
        cluster.objects.create("configmaps", config_map("b"), "default")
        items = (await cluster.request("GET", "/api/v1/configmaps")).body["items"]
        assert [one["metadata"]["namespace"] for one in items] == ["default", "kube-system"]

    async def test_a_table(self, cluster: Cluster) -> None:
        cluster.objects.create("pods", pod())
        table = (await cluster.request("GET", f"{PODS}?limit=500", headers=TABLE)).body
        assert table["kind"] == "Table"
        assert table["metadata"]["resourceVersion"] == str(cluster.objects.store.version)
        row = table["rows"][0]
        assert row["cells"][:3] == ["web", "0/1", "Pending"]
        assert row["object"]["kind"] == "PartialObjectMetadata"
        whole = (await cluster.request("GET", f"{PODS}/web?includeObject=Object", headers=TABLE)).body
        assert whole["rows"][0]["object"]["spec"]["containers"][0]["image"] == "nginx"

    async def test_metadata_only(self, cluster: Cluster) -> None:
        cluster.objects.create("pods", pod())
        accept = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
        items = (await cluster.request("GET", PODS, headers=accept)).body["items"]
        assert [set(one) for one in items] == [{"kind", "apiVersion", "metadata"}]

    async def test_selectors_that_are_none(self, cluster: Cluster) -> None:
        reply = await cluster.request("GET", f"{PODS}?fieldSelector=spec.foo%3D1")
        assert reply.status == 400
        assert reply.body["message"] == "field label not supported: spec.foo"
        reply = await cluster.request("GET", f"{MAPS}?fieldSelector=spec.foo%3D1")
        words = '"spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace"'
        assert reply.body["message"] == words


class TestDiscovery:
    AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

    async def test_aggregated(self, cluster: Cluster) -> None:
        reply = await cluster.request("GET", "/apis", headers={"Accept": f"{self.AGGREGATED},application/json"})
        assert reply.headers["Content-Type"] == self.AGGREGATED
        groups = {group["metadata"]["name"]: group["versions"] for group in reply.body["items"]}
        assert [version["version"] for version in groups["autoscaling"]] == ["v2", "v1"]
        deployments = next(one for one in groups["apps"][0]["resources"] if one["resource"] == "deployments")
        assert deployments["shortNames"] == ["deploy"]
        assert {one["subresource"] for one in deployments["subresources"]} == {"scale", "status"}

    async def test_classic(self, cluster: Cluster) -> None:
        assert (await cluster.request("GET", "/api")).body["versions"] == ["v1"]
        groups = [group["name"] for group in (await cluster.request("GET", "/apis")).body["groups"]]
        assert "apps" in groups
        resources = (await cluster.request("GET", "/api/v1")).body["resources"]
        assert {"pods", "pods/log", "pods/exec", "services"} <= {one["name"] for one in resources}
        group = (await cluster.request("GET", "/apis/autoscaling")).body
        assert group["preferredVersion"] == {"groupVersion": "autoscaling/v2", "version": "v2"}

    async def test_a_custom_resource_comes_and_goes(self, cluster: Cluster) -> None:
        assert (await cluster.request("GET", "/apis/example.com/v1")).status == 404
        cluster.objects.create(CRDS, crd())
        resources = (await cluster.request("GET", "/apis/example.com/v1")).body["resources"]
        assert [one["name"] for one in resources] == ["widgets"]
        cluster.objects.delete(CRDS, "widgets.example.com")
        assert (await cluster.request("GET", "/apis/example.com")).status == 404

    @pytest.mark.parametrize("release", ["1.2.2"])
    async def test_the_older_kubernetes_prefers_what_it_did_then(self, cluster: Cluster) -> None:
        groups = {one["name"]: one for one in (await cluster.request("GET", "/apis")).body["groups"]}
        assert groups["apiextensions.k8s.io"]["preferredVersion"]["version"] == "v1beta1"
        assert groups["extensions"]["preferredVersion"]["version"] == "v1beta1"
        assert groups["apps"]["preferredVersion"]["version"] == "v1"

    async def test_openapi(self, cluster: Cluster) -> None:
        index = (await cluster.request("GET", "/openapi/v3")).body["paths"]
        assert "apis/apps/v1" in index
        url = index["apis/apps/v1"]["serverRelativeURL"]
        assert (await cluster.request("GET", url)).body["openapi"].startswith("3.")
        assert (await cluster.request("GET", "/openapi/v3/apis/none/v1")).status == 404

    async def test_an_openapi_document_is_kept_until_it_changes(self, cluster: Cluster) -> None:
        async def index() -> str:
            paths = (await cluster.request("GET", "/openapi/v3")).body["paths"]
            return paths["apis/example.com/v1"]["serverRelativeURL"] if "apis/example.com/v1" in paths else ""

        cluster.objects.create(CRDS, crd())
        url = await index()
        name = url.partition("?hash=")[2]
        kept = await cluster.request("GET", url)
        assert (kept.headers["Cache-Control"], kept.headers["Etag"]) == ("public, immutable", f'"{name}"')
        assert "GMT" in kept.headers["Expires"]
        plain = await cluster.request("GET", "/openapi/v3/apis/example.com/v1")
        assert (plain.text, plain.headers["Cache-Control"]) == (kept.text, "no-cache, private")
        # Who asks with the hash of what is no more is sent to what is.
        definition = cluster.objects.get(CRDS, crd()["metadata"]["name"])
        definition["spec"]["names"]["shortNames"] = ["wd"]
        cluster.objects.update(CRDS, definition)
        newer = await index()
        assert newer != url
        sent_on = await cluster.request("GET", url, allow_redirects=False)
        assert (sent_on.status, sent_on.headers["Location"]) == (301, newer)

    async def test_the_older_openapi(self, cluster: Cluster) -> None:
        found = (await cluster.request("GET", "/openapi/v2")).body
        assert found["swagger"] == "2.0"
        spec = found["definitions"]["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"]
        assert spec["$ref"] == "#/definitions/io.k8s.api.apps.v1.DeploymentSpec"
        created = found["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["post"]
        assert created["responses"]["200"]["schema"] == {"$ref": "#/definitions/io.k8s.api.apps.v1.Deployment"}
        parameter = {"name": "fieldValidation", "in": "query", "type": "string", "uniqueItems": True}
        assert created["parameters"] == [parameter]
        # Custom kinds are there as soon as they are served.
        cluster.objects.create(CRDS, crd())
        found = (await cluster.request("GET", "/openapi/v2")).body
        assert "com.example.v1.Widget" in found["definitions"]
        # kubectl has better tables of its own than it would make of this.
        accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
        assert (await cluster.request("GET", "/openapi/v2", headers={"Accept": accept})).text == ""


class TestVersions:
    @pytest.mark.parametrize("release", ["1.2.2"])
    async def test_an_older_crd_is_shown_as_it_was_given(self, cluster: Cluster) -> None:
        spec = {
            "group": "example.com", "version": "v1alpha1", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "additionalPrinterColumns": [{"JSONPath": ".spec.size", "name": "Size", "type": "string"}],
            "validation": {"openAPIV3Schema": {"properties": {"spec": {"properties": {"size": {"type": "integer"}}}}}},
        }  # fmt: skip
        given = {"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition", "spec": spec}
        given["metadata"] = {"name": "widgets.example.com"}
        path = "/apis/apiextensions.k8s.io/v1beta1/customresourcedefinitions"
        assert (await cluster.request("POST", path, given)).status == 201
        shown = (await cluster.request("GET", f"{path}/widgets.example.com")).body
        assert shown["apiVersion"] == "apiextensions.k8s.io/v1beta1"
        for field, value in spec.items():
            if field != "names":
                assert shown["spec"][field] == value
        kept = cluster.objects.get(CRDS, "widgets.example.com")["spec"]
        assert kept["versions"][0]["additionalPrinterColumns"][0]["jsonPath"] == ".spec.size"
        widget = {"metadata": {"name": "w"}, "spec": {"size": 1, "unknown": "kept"}}
        widget |= {"apiVersion": "example.com/v1alpha1", "kind": "Widget"}
        path = "/apis/example.com/v1alpha1/namespaces/default/widgets"
        assert (await cluster.request("POST", path, widget)).body["spec"] == {"size": 1, "unknown": "kept"}
        assert (await cluster.request("PUT", f"{path}/w", widget)).status == 422

    @pytest.mark.parametrize("release", ["1.2.2"])
    async def test_autoscalers_in_each_version(self, cluster: Cluster) -> None:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        resource = {"name": "cpu", "targetAverageUtilization": 80}
        spec = {"maxReplicas": 5, "scaleTargetRef": target, "metrics": [{"type": "Resource", "resource": resource}]}
        path = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers"
        given = {"metadata": {"name": "web"}, "spec": spec}
        assert (await cluster.request("POST", path.format("v2beta1"), given)).status == 201
        shown = {v: (await cluster.request("GET", path.format(v) + "/web")).body for v in ("v1", "v2beta1", "v2beta2")}
        assert shown["v1"]["spec"]["targetCPUUtilizationPercentage"] == 80
        assert shown["v2beta1"]["spec"]["metrics"] == spec["metrics"]
        assert shown["v2beta2"]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 80
        for version, body in shown.items():
            reply = await cluster.request("PUT", path.format(version) + "/web", body)
            assert reply.body["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"], version

    @pytest.mark.parametrize("release", ["1.2.2"])
    async def test_an_older_ingress(self, cluster: Cluster) -> None:
        backend = {"serviceName": "web", "servicePort": 80}
        spec = {"backend": backend, "rules": [{"host": "a", "http": {"paths": [{"path": "/", "backend": backend}]}}]}
        path = "/apis/extensions/v1beta1/namespaces/default/ingresses"
        assert (await cluster.request("POST", path, {"metadata": {"name": "i"}, "spec": spec})).status == 201
        kept = cluster.objects.get("ingresses.networking.k8s.io", "i")["spec"]
        assert kept["defaultBackend"] == {"service": {"name": "web", "port": {"number": 80}}}
        shown = (await cluster.request("GET", f"{path}/i")).body["spec"]
        assert shown["backend"] == backend
        assert shown["rules"][0]["http"]["paths"][0]["backend"] == backend

    async def test_events_have_two_faces(self, cluster: Cluster) -> None:
        involved = cluster.objects.create("pods", pod())
        cluster.objects.event(involved, "Normal", "Pulled", "the words", "kubelet")
        items = (await cluster.request("GET", "/apis/events.k8s.io/v1/events")).body["items"]
        assert items[0]["note"] == "the words"
        assert items[0]["regarding"]["name"] == "web"


class TestReviews:
    async def test_the_administrator_may_all_and_others_what_they_have(self, cluster: Cluster) -> None:
        spec = {"resourceAttributes": {"verb": "delete", "resource": "nodes"}}
        reply = await cluster.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": spec})
        assert (reply.status, reply.body["status"]["allowed"]) == (201, True)
        reply = await cluster.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
        assert reply.body["status"]["userInfo"]["username"] == "kubernetes-admin"
        path = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews"
        assert (await cluster.request("POST", path, {"spec": spec | {"user": "a"}})).body["status"] == {
            "allowed": False
        }
        masters = {"user": "a", "groups": ["system:masters"]}
        assert (await cluster.request("POST", path, {"spec": spec | masters})).body["status"] == {"allowed": True}
        reply = await cluster.request("POST", path, {"spec": {"user": "a"}})
        assert (reply.status, "exactly one of" in reply.text) == (422, True)

    async def test_a_wrong_token_is_nobody(self, cluster: Cluster) -> None:
        review = {"spec": {"token": "wrong"}}
        reply = await cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
        assert reply.body["status"].get("authenticated") in (None, False)
