# SPDX-License-Identifier: Apache-2.0
"""The API server: TLS on the sandbox's node address, a token on everything, refusals in Kubernetes' own form."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import logging
import platform
from email.utils import format_datetime

from aiohttp import web

from labkit.ground.errors import SandboxError
from meshbox.api import bootstrap, openapi, refusals
from meshbox.api.crds import CRDS
from meshbox.api.discovery import AGGREGATED, Discovery
from meshbox.api.http_proxy import proxied_to, relay
from meshbox.api.identity import Identity
from meshbox.api.kubelet_proxy import Kubelet, proxied
from meshbox.api.metrics_api import Metrics
from meshbox.api.objects import ObjectStore
from meshbox.api.paths import Target, target_of
from meshbox.api.responses import as_yaml, form_of, in_yaml, indent, json_response, readable, refusal, warned
from meshbox.api.rest import Rest
from meshbox.api.serve_watch import Watches
from meshbox.api.server_metrics import RequestMonitor
from meshbox.contracts import ApiError, Obj, PodRuntime
from meshbox.exposition import CONTENT_TYPE
from meshbox.listening import Site
from meshbox.rbac.asked import acting, attributes, forbidden
from meshbox.rbac.policy import Attributes, Authorizer
from meshbox.rbac.users import ANONYMOUS, User
from meshbox.serving import application
from meshbox.settings import SandboxSettings
from meshbox.tokens import ISSUER, Tokens

__all__ = ["IDENTITY_HEADER", "ApiServer"]

log = logging.getLogger(__name__)

IDENTITY_HEADER = "X-Labkit-Identity"
"""Header of every reply: the nonce in the sandbox's `identity` file, which no other server can know."""

_OPEN = frozenset({"/livez", "/readyz", "/healthz", "/version"})
_CHECKS = ("ping", "log", "etcd")
_KEYS = ("/.well-known/openid-configuration", "/openid/v1/jwks")
_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
_STREAMS = frozenset({"log", "exec", "attach", "portforward"})


class ApiServer:
    """Serves the Kubernetes API.

    Args:
        objects: The cluster's objects.
        settings: Of the sandbox.
        runtime: The node, for logs, exec and port-forward; None where no pods run.
        metrics: What nodes and pods use; None: of `runtime`'s.

    Raises:
        SandboxError: its keys cannot be written.
    """

    def __init__(
        self,
        objects: ObjectStore,
        settings: SandboxSettings,
        runtime: PodRuntime | None,
        metrics: Metrics | None = None,
    ) -> None:
        self._objects = objects
        self._settings = settings
        self._runtime = runtime
        self._tokens = Tokens(settings.token, self._lives)
        self.watches = Watches(objects)
        self._authorizer = Authorizer(objects)
        metrics = metrics or Metrics(objects, runtime, settings.node_name)
        self._rest = Rest(objects, self.watches, self._tokens, self._authorizer, metrics)
        self._discovery = Discovery(objects.registry)
        self._monitor = RequestMonitor(objects)
        self._kubelet = Kubelet(settings.plan.node, runtime, self._tokens) if runtime is not None else None
        # Before anything starts: controllers hand its certificate on.
        self._identity = Identity(settings)
        self._runner: web.ServerRunner | None = None
        self.port = 0
        """The real port, once started."""

    async def start(self) -> None:
        """Listen, on port 6443 of the node address if it is free, and write the kubeconfig.

        Raises:
            SandboxError: where that is not possible.
        """
        self._runner = web.ServerRunner(application(self._answer), shutdown_timeout=0.5)
        await self._runner.setup()
        self.port = await self._listen(self._runner, self._identity)
        if self._kubelet is not None:
            await self._kubelet.start(self._identity)
        self._identity.write_kubeconfig(self.port)
        bootstrap.publish(self._objects, self._settings.plan, self.port)

    async def _listen(self, runner: web.ServerRunner, identity: Identity) -> int:
        node = self._settings.plan.node
        for port in (bootstrap.API_PORT, 0):
            site = Site(runner, node, port, ssl_context=identity.context())
            try:
                await site.start()
            except OSError as error:
                if error.errno == errno.EADDRINUSE and port:
                    log.info("port %d of %s is taken: another is used", port, node)
                    continue
                await runner.cleanup()
                raise SandboxError(
                    f"The API server cannot listen on {node}: {error.strerror or error}.",
                    next_step="Check that this machine is Linux, and that 127.0.0.0/8 is on its loopback interface.",
                ) from error
            return int(runner.addresses[-1][1])
        raise AssertionError("unreachable")

    async def stop(self) -> None:
        """End all watches and streams, and stop listening."""
        self.watches.close()
        if self._kubelet is not None:
            await self._kubelet.stop()
        if self._runner is None:
            return
        server = self._runner.server
        transports = [one.transport for one in server.connections] if server is not None else []
        await self._runner.cleanup()
        self._runner = None
        for transport in transports:
            # TLS waits half a minute for the client's own goodbye, which an idle client never says.
            if transport is not None:
                # Before Python 3.11.5 aborting what is gone already raises this.
                with contextlib.suppress(AttributeError):
                    transport.abort()
        await asyncio.sleep(0)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        with self._monitor.watching(request) as answered:
            response = await self._checked(request)
            answered.code, answered.content_type = response.status, response.content_type
        return response

    def _foreign(self, path: str) -> bool:
        """Whether no built-in group has such paths."""
        first, _, rest = path.removeprefix("/").partition("/")
        group = rest.partition("/")[0]
        known = (one for one in self._objects.registry.all() if one.crd is None)
        return first != "api" and (first != "apis" or all(one.group != group for one in known))

    async def _checked(self, request: web.Request) -> web.StreamResponse:
        try:
            response = await self._route(request)
        except ApiError as error:
            response = warned(refusal(error, foreign=self._foreign(request.path)), error.warnings)
            if error.code == 401 or (error.code == 403 and "Authorization" not in request.headers):
                # Whom nobody knows may not keep a connection either.
                response.force_close()
        except RecursionError:
            response = refusal(refusals.bad_request("the request is nested too deeply"))
        except (web.HTTPException, ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            # A fault of ours in one request must not look like a broken connection to the learner.
            response = refusal(refusals.internal(error, f"{request.method} {request.path} failed"))
        if not response.prepared:
            if "Upgrade" in request.headers:
                # What follows is read as another protocol's, which now nobody speaks.
                response.force_close()
            response.headers[IDENTITY_HEADER] = self._identity.nonce
            if isinstance(response, web.Response) and in_yaml(request.headers.get("Accept", "")):
                as_yaml(response)
            elif isinstance(response, web.Response) and readable(request.headers, request.query):
                indent(response)
        return response

    async def _route(self, request: web.Request) -> web.StreamResponse:
        self._check_origin(request)
        path = request.path
        if path.rstrip("/") in _OPEN or path.startswith(("/livez/", "/readyz/", "/healthz/")):
            return self._health(request, path)
        user = self._authenticate(request)
        raw_path = request.raw_path.partition("?")[0]
        if (asked := proxied(raw_path)) is not None:
            self._authorize(user, Attributes("get", "", "nodes", "proxy", "", asked[0]))
            return await self._of_node(request, *asked)
        if (behind := proxied_to(raw_path)) is not None:
            named = Target("", "v1", behind.plural, behind.namespace, behind.name, "proxy")
            self._authorize(user, attributes(request.method, path, named, {}))
            await _invite(request)
            return await relay(request, self._objects, self._settings.plan, behind)
        target = target_of(raw_path)
        self._authorize(user, attributes(request.method, path, target, request.query))
        if path == "/metrics" and request.method == "GET":
            return web.Response(body=self._monitor.page().encode(), headers={"Content-Type": CONTENT_TYPE})
        if target is None:
            if path.rstrip("/") == "/openapi/v2" and "protobuf" not in request.headers.get("Accept", ""):
                return await self._swagger()
            return self._other(request, path)
        await _invite(request)
        if target.plural == "pods" and target.subresource in _STREAMS and not target.group:
            return await self._stream(request, target)
        return await self._rest.serve(request, target, user)

    def _check_origin(self, request: web.Request) -> None:
        """Keep web pages out: a page may reach loopback, under its own name or through a name that it controls."""
        host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
        if host not in self._identity.hosts:
            raise ApiError(
                403, "Forbidden", f"the Host header {refusals.quoted(request.host)} is not one of this server's names"
            )
        # The Python client's WebSockets name this server itself; a page cannot be served from here.
        if request.headers.get("Origin", f"https://{request.host}") != f"https://{request.host}":
            raise ApiError(403, "Forbidden", "requests of web pages (with an Origin header) are not answered")

    def _authenticate(self, request: web.Request) -> User:
        given = request.headers.get("Authorization", "")
        if not given:
            return ANONYMOUS
        scheme, _, token = given.partition(" ")
        user = self._tokens.holder(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        return acting(user, request.headers, request.headers.getall("Impersonate-Group", []), self._authorizer)

    def _lives(self, resource: str, namespace: str, name: str, uid: str) -> bool:
        """Whether what a token is bound to is still there."""
        entry = self._objects.store.entry(resource, (namespace, name))
        return entry is not None and uid in ("", entry.obj["metadata"]["uid"])

    def _authorize(self, user: User, asked: Attributes) -> None:
        if not self._authorizer.decide(user, asked).allowed:
            raise forbidden(user, asked)

    def _health(self, request: web.Request, path: str) -> web.Response:
        if path.rstrip("/") == "/version":
            response = json_response(self._version())
            indent(response)
            return response
        text, check = "ok", path.strip("/").partition("/")[2]
        if check and check not in _CHECKS and not check.startswith("poststarthook/"):
            raise refusals.no_such_resource()
        if "verbose" in request.query:
            checks = "".join(f"[+]{name} ok\n" for name in _CHECKS)
            text = f"{checks}{path.split('/')[1]} check passed\n"
        return web.Response(text=text, headers={"Cache-Control": "no-cache, private"})

    def _issuer(self) -> Obj:
        """Who signs the tokens of ServiceAccounts: the sandbox itself, with a key that it shows to nobody."""
        return {
            "issuer": ISSUER,
            "jwks_uri": f"https://{self._settings.plan.node}:{self.port}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["HS256"],
        }

    def _version(self) -> Obj:
        text = self._settings.kubernetes_version
        major, minor, _ = text.removeprefix("v").split(".", 2)
        modern = {
            "emulationMajor": major,
            "emulationMinor": minor,
            "minCompatibilityMajor": major,
            "minCompatibilityMinor": str(int(minor) - 1),
        }
        if self._settings.legacy:
            modern = {}
        return {
            "major": major,
            "minor": minor,
            **modern,
            "gitVersion": text,
            "gitCommit": "0" * 40,
            "gitTreeState": "clean",
            "buildDate": "2019-06-27T00:00:00Z" if self._settings.legacy else "2026-06-01T00:00:00Z",
            "goVersion": "none",
            "compiler": "none",
            "platform": f"linux/{_GO_NAMES.get(platform.machine(), platform.machine())}",
        }

    def _other(self, request: web.Request, path: str) -> web.Response:
        """Discovery and OpenAPI."""
        if request.method not in ("GET", "HEAD"):
            raise refusals.method_not_allowed()
        parts = [part for part in path.split("/") if part]
        if parts in (["api"], ["apis"]):
            if form_of(request.headers.get("Accept", "")).kind == "APIGroupDiscoveryList":
                return json_response(self._discovery.aggregated(core=parts == ["api"]), content_type=AGGREGATED)
            if parts == ["apis"]:
                return json_response(self._discovery.groups())
            return json_response(self._discovery.core_versions(f"{self._settings.plan.node}:{self.port}"))
        found: Obj | None = None
        if parts[:1] == ["api"] and len(parts) == 2:
            found = self._discovery.resources("", parts[1])
        elif parts[:1] == ["apis"] and len(parts) == 2:
            found = self._discovery.group(parts[1])
        elif parts[:1] == ["apis"] and len(parts) == 3:
            found = self._discovery.resources(parts[1], parts[2])
        elif parts[:1] == ["openapi"]:
            return self._openapi(request, parts[1:])
        elif not parts:
            own = (*_OPEN, "/metrics", "/openapi/v2", "/openapi/v3", "/version", *_KEYS)
            response = json_response({"paths": sorted({*self._discovery.paths(), *own})})
            indent(response)
            return response
        elif path in _KEYS:
            found = {"keys": []} if path.endswith("jwks") else self._issuer()
        if found is None:
            raise refusals.no_such_resource({"api": "", "apis": "/".join(parts[1:2])}.get(parts[0]))
        return json_response(found)

    def _openapi(self, request: web.Request, parts: list[str]) -> web.Response:
        crds = [entry.obj for entry in self._objects.store.entries(CRDS)]
        if parts == ["v2"]:
            return web.Response(body=b"", headers={"Content-Type": openapi.V2_CONTENT_TYPE})
        versions = self._discovery.group_versions()
        if parts == ["v3"]:
            return json_response(openapi.index(versions, crds))
        name = "/".join(parts[1:])
        if parts[:1] != ["v3"] or name not in openapi.names(versions, crds):
            raise refusals.no_such_resource()
        body, state = openapi.encoded(name.partition("/")[2] or name, crds)
        response = json_response(body)
        response.headers.update({"Etag": f'"{state}"', "Vary": "Accept"})
        asked = request.query.get("hash")
        if asked == state:
            # Clients keep it then: each `kubectl apply` asks for the documents of all kinds that it writes.
            response.headers.update({"Cache-Control": "public, immutable", "Expires": _in_a_year()})
        elif asked:
            return web.Response(status=301, headers={"Location": f"/openapi/v3/{name}?hash={state}"})
        return response

    async def _swagger(self) -> web.Response:
        crds = [entry.obj for entry in self._objects.store.entries(CRDS)]
        body = await asyncio.to_thread(openapi.swagger, self._discovery.group_versions(), crds)
        return web.Response(body=body, content_type="application/json")

    async def _of_node(self, request: web.Request, node: str, path: str) -> web.Response:
        self._objects.get("nodes", node)
        if self._kubelet is None:
            raise ApiError(503, "ServiceUnavailable", "this API server runs without a node")
        if request.method not in ("GET", "HEAD"):
            raise refusals.method_not_allowed()
        return await self._kubelet.answer(path)

    async def _stream(self, request: web.Request, target: Target) -> web.StreamResponse:
        pod = self._objects.get("pods", target.name, target.namespace)
        if self._runtime is None:
            raise ApiError(503, "ServiceUnavailable", "this API server runs without a node: pods have no processes")
        from meshbox.api import streams

        return await streams.handle(request, self._runtime, pod, target.subresource)


def _in_a_year() -> str:
    return format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365), usegmt=True)


async def _invite(request: web.Request) -> None:
    """Tell a client that waits with its body that it is wanted, now that he may ask."""
    expected = request.headers.get("Expect", "")
    if expected.lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # No part of the answer proper.
        request.writer.output_size = 0
    elif expected:
        raise ApiError(417, "", f"the server does not meet the expectation {refusals.quoted(expected)}")
