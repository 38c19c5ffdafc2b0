# SPDX-License-Identifier: Apache-2.0
"""Who may ask the HTTP server, and how it starts."""

from __future__ import annotations

import asyncio
import json
import ssl

import aiohttp
import pytest

from meshbox.api.objects import ObjectStore
from meshbox.api.server import IDENTITY_HEADER, ApiServer
from meshbox.settings import SandboxSettings

from .conftest import MAPS, Cluster


class TestAccess:
    @pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/version", "/readyz/ping"])
    async def test_health_needs_no_token_and_says_whose_it_is(self, cluster: Cluster, path: str) -> None:
        reply = await cluster.request("GET", path, headers={"Authorization": None})
        assert reply.status == 200
        assert reply.headers[IDENTITY_HEADER] == (cluster.settings.home / "identity").read_text()
        assert len(reply.headers[IDENTITY_HEADER]) == 43

    async def test_the_version_is_that_of_the_time(self, cluster: Cluster) -> None:
        version = (await cluster.request("GET", "/version")).body
        assert (version["gitVersion"], version["major"], version["minor"]) == ("v1.35.4", "1", "35")

    async def test_whom_nobody_knows_may_nothing_else(self, cluster: Cluster) -> None:
        for path, words in ((MAPS, 'configmaps is forbidden: User "system:anonymous" cannot list'), ("/api", "path")):
            reply = await cluster.request("GET", path, headers={"Authorization": None})
            assert (reply.status, reply.body["reason"]) == (403, "Forbidden")
            assert words in reply.body["message"]
            assert reply.headers["Connection"] == "close"

    @pytest.mark.parametrize("authorization", ["Bearer wrong", "Basic YTpi", "Bearer a.b.c", "Bearer ä.b.c"])
    async def test_a_wrong_token_opens_nothing(self, cluster: Cluster, authorization: str) -> None:
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
        assert reply.status == 403
        assert 'User "system:serviceaccount:default:robot" cannot create' in reply.body["message"]
        reply = await cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
        assert reply.body["status"]["authenticated"] is True
        assert reply.body["status"]["user"]["username"] == "system:serviceaccount:default:robot"
        other = "AAAA" if token[-4:] != "AAAA" else "BBBA"
        forged = {"Authorization": f"Bearer {token[:-4]}{other}"}
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
