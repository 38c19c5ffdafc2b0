"""The HTTP server: who may ask, what is answered, and in which words it refuses."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import aiohttp
import pytest

from labkit.sandbox.api.objects import ObjectStore
from labkit.sandbox.api.server import IDENTITY_HEADER, ApiServer
from labkit.sandbox.settings import SandboxSettings

from .conftest import CRDS, Cluster, crd, pod

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


def config_map(name: str = "settings", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


class TestAccess:
    @pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/version", "/readyz/ping"])
    async def test_health_needs_no_token_and_says_whose_it_is(self, cluster: Cluster, path: str) -> None:
        reply = await cluster.request("GET", path, headers={"Authorization": None})
        assert reply.status == 200
        assert reply.headers[IDENTITY_HEADER] == (cluster.settings.home / "identity").read_text()
        assert len(reply.headers[IDENTITY_HEADER]) == 32

    async def test_the_version_is_that_of_the_time(self, cluster: Cluster) -> None:
        version = (await cluster.request("GET", "/version")).body
        assert (version["gitVersion"], version["major"], version["minor"]) == ("v1.35.0+labkit", "1", "35")

    @pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic YTpi", "Bearer a.b.c", "Bearer ä.b.c"])
    async def test_all_else_needs_the_token(self, cluster: Cluster, authorization: str | None) -> None:
        for path in (MAPS, "/api", "/openapi/v3", "/nothing"):
            reply = await cluster.request("GET", path, headers={"Authorization": authorization})
            assert reply.status == 401
            assert (reply.body["kind"], reply.body["reason"]) == ("Status", "Unauthorized")

    async def test_a_web_page_gets_nothing(self, cluster: Cluster) -> None:
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example:6443"}):
            for path in (MAPS, "/version"):
                reply = await cluster.request("GET", path, headers=headers)
                assert reply.status == 403
                assert "items" not in reply.text

    async def test_a_service_accounts_token_is_one(self, cluster: Cluster) -> None:
        cluster.objects.create("serviceaccounts", {"metadata": {"name": "robot"}})
        path = "/api/v1/namespaces/default/serviceaccounts/robot/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
        token = (await cluster.request("POST", path, request)).body["status"]["token"]
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        headers = {"Authorization": f"Bearer {token}"}
        reply = await cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review, headers=headers)
        assert reply.body["status"]["authenticated"] is True
        assert reply.body["status"]["user"]["username"] == "system:serviceaccount:default:robot"
        forged = {"Authorization": f"Bearer {token[:-4]}AAAA"}
        assert (await cluster.request("GET", MAPS, headers=forged)).status == 401

    async def test_files_are_the_owners_alone(self, cluster: Cluster) -> None:
        for file in ("kubeconfig", "identity", f"server-{cluster.settings.plan.node}.pem"):
            assert (cluster.settings.home / file).stat().st_mode & 0o777 == 0o600

    async def test_it_listens_on_the_node_only(self, cluster: Cluster) -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", cluster.server.port)


class TestStart:
    async def test_a_taken_port_is_avoided(self, objects: ObjectStore, settings: SandboxSettings) -> None:
        taken = await asyncio.start_server(lambda _r, _w: None, settings.plan.node, 6443)
        server = ApiServer(objects, settings, None)
        async with taken:
            await server.start()
            assert server.port not in (0, 6443)
            config = json.loads((settings.home / "kubeconfig").read_text())
            url = f"https://{settings.plan.node}:{server.port}"
            assert config["clusters"][0]["cluster"]["server"] == url
            await server.stop()

    async def test_keys_are_kept(self, objects: ObjectStore, settings: SandboxSettings) -> None:
        files = ("ca.crt", "identity", f"server-{settings.plan.node}.pem")
        seen = []
        for _ in range(2):
            server = ApiServer(objects, settings, None)
            await server.start()
            await server.stop()
            seen.append([(settings.home / file).read_bytes() for file in files])
        assert seen[0] == seen[1]

    async def test_damaged_keys_are_made_again(self, objects: ObjectStore, settings: SandboxSettings) -> None:
        (settings.home / "ca.crt").write_text("x")
        (settings.home / f"server-{settings.plan.node}.pem").write_text("x")
        server = ApiServer(objects, settings, None)
        await server.start()
        context = ssl.create_default_context(cafile=str(settings.home / "ca.crt"))
        url = f"https://{settings.plan.node}:{server.port}/readyz"
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as response:
            assert response.status == 200
        await server.stop()

    async def test_the_kubernetes_service_points_to_it(self, cluster: Cluster) -> None:
        endpoints = cluster.objects.get("endpoints", "kubernetes")
        assert endpoints["subsets"][0]["addresses"] == [{"ip": cluster.settings.plan.node}]
        assert endpoints["subsets"][0]["ports"][0]["port"] == cluster.server.port


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "not valid JSON"),
            (b"{", "not valid JSON"),
            (b"[]", "not an object"),
            (b'"text"', "not an object"),
            (b"null", "not an object"),
            (b"\xff\xfe{}", "not UTF-8: byte 0xff at position 0"),
            (b'{"a": NaN}', "NaN is not a JSON value"),
            (b'{"a": 1e999}', "out of range"),
            (b'{"a":' * 150_000 + b"1" + b"}" * 150_000, "nested too deeply"),
            (b'{"a":' * 300 + b"1" + b"}" * 300, "nested too deeply"),
            (b'{"metadata": []}', "cannot unmarshal array into Go struct field"),
            (b'{"metadata": {"name": "a"}, "data": 1}', "cannot unmarshal number"),
            (b'{"metadata": {"name": "a"}, "data": {"a": 1}}', "cannot unmarshal number"),
            (b'{"kind": "Secret", "metadata": {"name": "a"}}', "cannot be handled as a ConfigMap"),
            (b'{"apiVersion": "v2", "metadata": {"name": "a"}}', "does not match the expected API version (v1)"),
            (b'{"kind": 1, "metadata": {"name": "a"}}', "cannot be handled as a ConfigMap"),
        ],
    )
    async def test_nonsense_is_a_clear_400(self, cluster: Cluster, body: bytes, words: str) -> None:
        reply = await cluster.request("POST", MAPS, body)
        assert reply.status == 400, reply.text[:300]
        assert reply.body["kind"] == "Status"
        assert words in reply.body["message"]

    async def test_half_a_surrogate_pair_becomes_a_replacement_character(self, cluster: Cluster) -> None:
        body = b'{"metadata": {"name": "a"}, "data": {"k": "x\\ud800y", "good": "\\ud83d\\ude00"}}'
        assert (await cluster.request("POST", MAPS, body)).status == 201
        assert cluster.objects.get("configmaps", "a")["data"] == {"k": "x\ufffdy", "good": "\U0001f600"}

    async def test_yaml_is_taken_as_well(self, cluster: Cluster) -> None:
        headers = {"Content-Type": "application/yaml"}
        good = b"metadata: {name: a}\ndata: {k: v}\n"
        assert (await cluster.request("POST", MAPS, good, headers=headers)).status == 201
        reply = await cluster.request("POST", MAPS, b"a: [", headers=headers)
        assert reply.status == 400
        assert reply.body["message"].startswith("error decoding YAML: while parsing a flow")

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_a_body_over_3_mb_is_too_large(self, cluster: Cluster, chunked: bool) -> None:
        body = json.dumps(config_map(text="x" * 4_000_000)).encode()
        if not chunked:
            reply = await cluster.request("POST", MAPS, body)
            assert reply.status == 413
            assert reply.body["reason"] == "RequestEntityTooLarge"
            assert reply.body["message"] == "Request entity too large: limit is 3145728"
            return

        async def parts() -> Any:
            for start in range(0, len(body), 100_000):
                yield body[start : start + 100_000]

        headers = {"Authorization": f"Bearer {cluster.settings.token}", "Content-Type": "application/json"}
        async with cluster.session.post(cluster.url + MAPS, data=parts(), headers=headers) as response:
            assert response.status == 413

    async def test_another_media_type_is_refused(self, cluster: Cluster) -> None:
        reply = await cluster.request("POST", MAPS, b"<a/>", headers={"Content-Type": "text/xml"})
        assert reply.status == 415
        assert "application/json" in reply.body["message"]
        reply = await cluster.request("PATCH", f"{MAPS}/kube", b"{}", headers={"Content-Type": "application/json"})
        assert reply.status == 415
        assert "application/strategic-merge-patch+json" in reply.body["message"]

    @pytest.mark.parametrize(
        "body", [b"k8s", b"k8s\x00", b"k8s\x00\x0a\xff", b"\x00\x01\x02", b"k8s\x00\x0a\x05\x0a\x01v\x12\xff\x12\x00"]
    )
    async def test_damaged_protobuf_is_refused(self, cluster: Cluster, body: bytes) -> None:
        headers = {"Content-Type": "application/vnd.kubernetes.protobuf"}
        reply = await cluster.request("POST", MAPS, body, headers=headers)
        assert reply.status in (400, 415)
        assert reply.body["kind"] == "Status"

    async def test_an_answer_that_cannot_be_given_is_406(self, cluster: Cluster) -> None:
        reply = await cluster.request("GET", MAPS, headers={"Accept": "application/vnd.kubernetes.protobuf"})
        assert reply.status == 406


class TestStrictness:
    async def test_unknown_and_duplicate_fields_are_refused(self, cluster: Cluster) -> None:
        body = b'{"metadata":{"name":"a"},"data":{"x":"1","x":"2"},"extra":{"y":1}}'
        reply = await cluster.request("POST", f"{MAPS}?fieldValidation=Strict", body)
        assert reply.status == 400
        assert reply.body["message"] == (
            'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
            'duplicate field "data.x", unknown field "extra"'
        )

    async def test_or_warned_of(self, cluster: Cluster) -> None:
        body = {**config_map("a"), "extra": 1}
        reply = await cluster.request("POST", f"{MAPS}?fieldValidation=Warn", body)
        assert reply.status == 201
        assert reply.headers.getall("Warning") == ['299 - "unknown field \\"extra\\""']
        assert "extra" not in reply.body

    async def test_or_dropped_in_silence(self, cluster: Cluster) -> None:
        reply = await cluster.request("POST", f"{MAPS}?fieldValidation=Ignore", {**config_map("a"), "extra": 1})
        assert (reply.status, "Warning" in reply.headers, "extra" in reply.body) == (201, False, False)

    async def test_another_value_is_none(self, cluster: Cluster) -> None:
        reply = await cluster.request("POST", f"{MAPS}?fieldValidation=Hard", config_map())
        assert reply.status == 422

    async def test_a_custom_resource_is_checked_by_its_schema(self, cluster: Cluster) -> None:
        spec = {"type": "object", "properties": {"size": {"type": "integer"}}}
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
        cluster.objects.create(CRDS, crd(schema=schema))
        path = "/apis/example.com/v1/namespaces/default/widgets?fieldValidation=Strict"
        widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"sise": 1}}
        reply = await cluster.request("POST", path, widget)
        assert reply.status == 400
        assert reply.body["message"] == 'strict decoding error: unknown field "spec.sise"'


class TestVerbs:
    async def test_create_get_put_delete(self, cluster: Cluster) -> None:
        created = await cluster.request("POST", MAPS, config_map(a="1"))
        assert created.status == 201
        got = await cluster.request("GET", f"{MAPS}/settings")
        assert got.body == created.body
        changed = await cluster.request("PUT", f"{MAPS}/settings", {**got.body, "data": {"a": "2"}})
        assert changed.body["data"] == {"a": "2"}
        stale = await cluster.request("PUT", f"{MAPS}/settings", got.body)
        assert (stale.status, stale.body["reason"]) == (409, "Conflict")
        deleted = await cluster.request("DELETE", f"{MAPS}/settings")
        assert deleted.body["status"] == "Success"
        assert deleted.body["details"]["uid"] == created.body["metadata"]["uid"]
        missing = await cluster.request("GET", f"{MAPS}/settings")
        assert (missing.status, missing.body["message"]) == (404, 'configmaps "settings" not found')

    async def test_the_name_in_a_put_must_be_that_of_the_path(self, cluster: Cluster) -> None:
        await cluster.request("POST", MAPS, config_map())
        reply = await cluster.request("PUT", f"{MAPS}/settings", config_map("other"))
        assert reply.status == 400
        reply = await cluster.request("PUT", f"{MAPS}/none", config_map("none"))
        assert reply.status == 404

    async def test_a_custom_resource_is_put_with_its_version_only(self, cluster: Cluster) -> None:
        cluster.objects.create(CRDS, crd())
        widget = cluster.objects.create("widgets.example.com", {"metadata": {"name": "w"}})
        del widget["metadata"]["resourceVersion"]
        reply = await cluster.request("PUT", "/apis/example.com/v1/namespaces/default/widgets/w", widget)
        assert reply.status == 422
        assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in reply.body["message"]

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/api/v1/nothing", 404),
            ("GET", "/apis/none.example/v1/things", 404),
            ("GET", "/apis/none.example", 404),
            ("GET", "/what", 404),
            ("GET", "/api/v1/namespaces/default/nodes", 404),
            ("GET", f"{MAPS}/a/status", 404),
            ("GET", f"{MAPS}/a/b/c", 404),
            ("POST", "/api/v1/pods", 405),
            ("POST", f"{MAPS}/a", 405),
            ("PUT", MAPS, 405),
            ("PATCH", MAPS, 405),
            ("DELETE", "/version", 200),
            ("DELETE", "/api", 405),
            ("OPTIONS", MAPS, 405),
            ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405),
        ],
    )
    async def test_what_does_not_exist(self, cluster: Cluster, method: str, path: str, status: int) -> None:
        reply = await cluster.request(method, path, b"{}" if method in ("POST", "PUT") else None)
        assert reply.status == status, reply.text
        if status >= 400:
            assert (reply.body["kind"], reply.body["code"]) == ("Status", status)

    async def test_a_dry_run_changes_nothing(self, cluster: Cluster) -> None:
        version = cluster.objects.store.version
        reply = await cluster.request("POST", f"{MAPS}?dryRun=All", config_map())
        assert (reply.status, reply.body["metadata"]["name"]) == (201, "settings")
        cluster.objects.create("configmaps", config_map("kept", a="1"))
        reply = await cluster.request(
            "PATCH",
            f"{MAPS}/kept?dryRun=All",
            {"data": {"a": "2"}},
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert reply.body["data"] == {"a": "2"}
        assert (await cluster.request("DELETE", f"{MAPS}/kept?dryRun=All")).status == 200
        assert cluster.objects.get("configmaps", "kept")["data"] == {"a": "1"}
        assert cluster.objects.store.version == version + 1
        assert (await cluster.request("POST", f"{MAPS}?dryRun=Some", config_map())).status == 422

    async def test_a_collection_is_deleted(self, cluster: Cluster) -> None:
        for name in "abc":
            labelled = config_map(name)
            labelled["metadata"]["labels"] = {"group": "x" if name < "c" else "y"}
            cluster.objects.create("configmaps", labelled)
        reply = await cluster.request("DELETE", f"{MAPS}?labelSelector=group%3Dx")
        assert [one["metadata"]["name"] for one in reply.body["items"]] == ["a", "b"]
        assert [one["metadata"]["name"] for one in cluster.objects.list("configmaps")] == ["c"]

    async def test_delete_options_come_in_the_body(self, cluster: Cluster) -> None:
        uid = cluster.objects.create("pods", pod(nodeName="n"))["metadata"]["uid"]
        other = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}}
        assert (await cluster.request("DELETE", f"{PODS}/web", other)).status == 409
        options = {"gracePeriodSeconds": 3, "preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        reply = await cluster.request("DELETE", f"{PODS}/web", options)
        assert reply.body["metadata"]["deletionGracePeriodSeconds"] == 3
        assert (await cluster.request("DELETE", f"{PODS}/web", {"propagationPolicy": "Maybe"})).status == 422
        assert (await cluster.request("DELETE", f"{PODS}/web", {"gracePeriodSeconds": "x"})).status == 400
        assert (await cluster.request("DELETE", f"{PODS}/web?gracePeriodSeconds=0")).status == 200
        assert cluster.objects.find("pods", "web") is None

    async def test_a_pod_is_evicted_and_bound(self, cluster: Cluster) -> None:
        cluster.objects.create("pods", pod())
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web"}, "target": {"name": "node-1"}}
        assert (await cluster.request("POST", f"{PODS}/web/binding", binding)).status == 201
        assert cluster.objects.get("pods", "web")["spec"]["nodeName"] == "node-1"
        assert (await cluster.request("POST", f"{PODS}/web/binding", binding)).status == 409
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"}}
        assert (await cluster.request("POST", f"{PODS}/web/eviction", eviction)).status == 201
        assert cluster.objects.get("pods", "web")["metadata"]["deletionTimestamp"]

    async def test_streams_need_a_node(self, cluster: Cluster) -> None:
        cluster.objects.create("pods", pod())
        assert (await cluster.request("GET", f"{PODS}/web/log")).status == 503
        assert (await cluster.request("GET", f"{PODS}/none/log")).status == 404

    async def test_scale(self, cluster: Cluster) -> None:
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": pod()["spec"]}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        cluster.objects.create("deployments.apps", {"metadata": {"name": "web"}, "spec": spec})
        path = "/apis/apps/v1/namespaces/default/deployments/web/scale"
        scale = (await cluster.request("GET", path)).body
        assert (scale["kind"], scale["spec"], scale["status"]) == (
            "Scale",
            {"replicas": 2},
            {"replicas": 0, "selector": "app=web"},
        )
        scale["spec"]["replicas"] = 5
        assert (await cluster.request("PUT", path, scale)).body["spec"] == {"replicas": 5}
        assert (await cluster.request("PUT", path, {**scale, "spec": {"replicas": "many"}})).status == 400
        assert (await cluster.request("PUT", path, scale)).status == 409, "of an older version"


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
        assert (await cluster.request("GET", "/openapi/v2")).text == ""


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
    async def test_everything_is_allowed(self, cluster: Cluster) -> None:
        spec = {"resourceAttributes": {"verb": "delete", "resource": "nodes"}}
        reply = await cluster.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": spec})
        assert (reply.status, reply.body["status"]["allowed"]) == (201, True)
        reply = await cluster.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
        assert reply.body["status"]["userInfo"]["username"] == "kubernetes-admin"
        path = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews"
        assert (await cluster.request("POST", path, {"spec": spec | {"user": "a"}})).body["status"]["allowed"] is True

    async def test_a_wrong_token_is_nobody(self, cluster: Cluster) -> None:
        review = {"spec": {"token": "wrong"}}
        reply = await cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
        assert reply.body["status"].get("authenticated") in (None, False)


async def test_a_full_disk_is_said_to_the_client(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("labkit.sandbox.api.journal.os.pwrite", full)
        reply = await cluster.request("POST", MAPS, config_map())
    assert reply.status == 507
    assert "No space left on device" in reply.body["message"]
    assert (await cluster.request("GET", f"{MAPS}/settings")).status == 404


async def test_a_fault_of_the_server_is_a_500_and_logged(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cluster.objects, "create", broken)
    reply = await cluster.request("POST", MAPS, config_map())
    assert (reply.status, reply.body["reason"]) == (500, "InternalError")
    assert "ZeroDivisionError" in caplog.text
