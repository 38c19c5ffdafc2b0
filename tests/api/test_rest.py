# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: who may ask, what is answered, and in which words it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import CRDS, MAPS, PODS, Cluster, config_map, crd, pod

UNKNOWN = (
    "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: "
)


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", f"{UNKNOWN}unexpected end of JSON input (<empty>)"),
            (b"{", f"{UNKNOWN}unexpected end of JSON input ({{)"),
            (b"nonsense\n", f"{UNKNOWN}invalid character 'o' in literal null (expecting 'u') (6e6f6e73656e73650a)"),
            (b"[]", f"{UNKNOWN}json: cannot unmarshal array into Go value of type struct {{ APIVersion string "),
            (b'"text"', f"{UNKNOWN}json: cannot unmarshal string into Go value of type struct {{ APIVersion string "),
            (b"null", "not an object"),
            (b"\xff\xfe{}", "not UTF-8: byte 0xff at position 0"),
            (b'{"a": NaN}', "invalid character 'N' looking for beginning of value"),
            (b'{"a": 1e999}', "out of range"),
            (b'{"a":' * 150_000 + b"1" + b"}" * 150_000, "nested too deeply"),
            (b'{"a":' * 300 + b"1" + b"}" * 300, "nested too deeply"),
            (b'{"metadata": []}', "cannot unmarshal array into Go struct field"),
            (b'{"metadata": {"name": "a"}, "data": 1}', "cannot unmarshal number"),
            (b'{"metadata": {"name": "a"}, "data": {"a": 1}}', "cannot unmarshal number"),
            (b'{"kind": "Secret", "metadata": {"name": "a"}}', "cannot be handled as a ConfigMap"),
            (b'{"apiVersion": "v2", "metadata": {"name": "a"}}', 'no kind "ConfigMap" is registered for version "v2"'),
            (b'{"kind": 1, "metadata": {"name": "a"}}', "cannot unmarshal number into Go struct field .kind of type"),
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
        said = "error converting YAML to JSON: yaml: line 2: did not find expected node content"
        assert reply.body["message"] == said

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

    async def test_protobuf_of_many_values_is_refused(self, cluster: Cluster) -> None:
        # Two bytes each: an empty container.
        spec, envelope = b"\x12\x00" * 120_000, b"k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod"
        length = bytes([len(spec) & 127 | 128, len(spec) >> 7 & 127 | 128, len(spec) >> 14])
        outer = len(spec) + 4
        body = envelope + b"\x12" + bytes([outer & 127 | 128, outer >> 7 & 127 | 128, outer >> 14])
        body += b"\x12" + length + spec
        headers = {"Content-Type": "application/vnd.kubernetes.protobuf"}
        reply = await cluster.request("POST", "/api/v1/namespaces/default/pods", body, headers=headers)
        assert (reply.status, reply.body["message"]) == (400, "the body of the request holds more than 100000 values")

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
        words = 'Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.sise"'
        assert reply.body["message"] == words


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
        if status == 404 and path.startswith(("/api/v1/", "/apis/apps/")):
            assert reply.body["message"] == "the server could not find the requested resource"
        elif status == 404:
            # Outside of the built-in groups there is no Status: clients say themselves what they asked for.
            assert reply.text == "404 page not found\n"
        elif status >= 400:
            assert (reply.body["kind"], reply.body["code"]) == ("Status", status)
        if status == 404 and path.startswith("/api/"):
            # Below a group that the server itself serves it says what it says of all that it does not know.
            assert reply.body["message"] == "the server could not find the requested resource"
            assert reply.body["details"] == {}

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
        bound = cluster.objects.get("pods", "web")
        assert bound["spec"]["nodeName"] == "node-1"
        assert [(one["type"], one["status"]) for one in bound["status"]["conditions"]] == [("PodScheduled", "True")]
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


async def test_a_full_disk_is_said_to_the_client(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("meshbox.api.journal.os.pwrite", full)
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
