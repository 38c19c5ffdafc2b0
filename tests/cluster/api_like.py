"""Something that kubectl takes for a cluster: an HTTPS server that tells who it is, and remembers who came."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Group and version: the kinds of it, those without namespaces in capitals.
_SERVED = {
    "v1": "NAMESPACES.Namespace NODES.Node configmaps.ConfigMap events.Event pods.Pod services.Service",
    "apps/v1": "daemonsets.DaemonSet deployments.Deployment replicasets.ReplicaSet statefulsets.StatefulSet",
    "batch/v1": "jobs.Job",
    "apiextensions.k8s.io/v1": "CUSTOMRESOURCEDEFINITIONS.CustomResourceDefinition",
    "networking.istio.io/v1": "gateways.Gateway",
}
_SHORT = {"CustomResourceDefinition": ["crd"], "Service": ["svc"]}
_PATH = re.compile(
    r"/(?:api/|apis/(?=.*/))(?P<version>v1|[^/]+/v1)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?"
)
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def _resources(version: str) -> list[dict[str, Any]]:
    told = []
    for word in _SERVED[version].split():
        plural, _, kind = word.partition(".")
        about = {"kind": kind, "namespaced": plural.islower(), "shortNames": _SHORT.get(kind, [])}
        names = {"name": plural.lower(), "singularName": kind.lower()}
        told.append({**names, **about, "verbs": ["get", "list", "delete", "patch"]})
    return told


class ApiLike:
    """A server at `https://127.0.0.1:PORT`.

    Args:
        folder: Where its key goes.
        uid: Of its namespace kube-system.
    """

    def __init__(self, folder: Path, uid: str) -> None:
        self.uid = uid
        self.connections = 0
        self.requests: list[str] = []
        self.asked: list[tuple[str, str]] = []
        """Path with query, and the media type wanted."""
        self.logins: list[str] = []
        self.items: list[dict[str, Any]] = []
        """The objects there are, besides kube-system. One without a namespace is in each."""
        self.answers: dict[str, Any] = {"/version": {"gitVersion": "v1.35.0"}}
        """What else is answered at a path; for text, as text."""
        self.headers: list[Message] = []
        self.accepted = ""
        """The only Authorization that is let in; "" for any."""
        self.rights: set[str] | None = None
        """What the user may: "create pods"; None for everything."""
        self.silent = threading.Event()
        """While it is set nothing is answered."""
        key, certificate = _certificate()
        (folder / f"{uid}.pem").write_bytes(key + certificate)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / f"{uid}.pem")
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.api = self
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        self.authority = certificate
        self.entry = {"server": self.url, "certificate-authority-data": base64.b64encode(certificate).decode()}

    def drop(self) -> None:
        """End every connection there is, from this side, as a server does that has waited long enough."""
        for connection in self.server.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server.open.clear()


@contextlib.contextmanager
def api_like(folder: Path, uid: str = "uid-a") -> Iterator[ApiLike]:
    """One that ends with the block."""
    api = ApiLike(folder, uid)
    serving = threading.Thread(target=api.server.serve_forever, args=(0.02,))
    serving.start()
    try:
        yield api
    finally:
        api.server.shutdown()
        api.server.server_close()
        serving.join()


def kubeconfig(
    path: Path, clusters: Mapping[str, Mapping[str, Any]], *, current: str = "", user: Mapping[str, Any] | None = None
) -> Path:
    """Write a kubeconfig with a context for each cluster, named as it is."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current or next(iter(clusters), ""),
        "clusters": [{"name": name, "cluster": entry} for name, entry in clusters.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in clusters],
        "users": [{"name": "me", "user": {"token": "a-token"} if user is None else user}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    api: ApiLike

    def __init__(self, *about: Any) -> None:
        self.open: list[ssl.SSLSocket] = []
        super().__init__(*about)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self.api.connections += 1
        with contextlib.suppress(OSError):
            wrapped = self.api.context.wrap_socket(request, server_side=True)
            self.open.append(wrapped)
            super().process_request_thread(wrapped, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no fault."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Kept in `requests`."""

    def _answer(self) -> None:
        api, path = self.server.api, self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        api.requests.append(f"{self.command} {path}")
        api.headers.append(self.headers)
        api.asked.append((self.path, self.headers.get("Accept", "")))
        api.logins.append(self.headers.get("Authorization", ""))
        while api.silent.is_set() and path != "/":
            time.sleep(0.01)
        refused = api.accepted and self.headers.get("Authorization", "") != api.accepted
        denied = {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"}
        answer = denied if refused else self._said(api, path, body)
        status = answer.get("code", 200) if isinstance(answer, dict) and answer.get("kind") == "Status" else 200
        text = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _said(self, api: ApiLike, path: str, body: bytes) -> Any:
        groups = [
            {"name": group, "versions": [{"groupVersion": version, "version": "v1"}]}
            for version in _SERVED
            if (group := version.rpartition("/")[0])
        ]
        told: dict[str, Any] = {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
        }
        for version in _SERVED:
            resources = {"kind": "APIResourceList", "groupVersion": version, "resources": _resources(version)}
            told[f"/{'apis' if '/' in version else 'api'}/{version}"] = resources
        told |= api.answers
        if path in told:
            return told[path]
        if path == _REVIEWS:
            about = json.loads(body)["spec"]["resourceAttributes"]
            words = f"{about['verb']} {'.'.join(filter(None, (about['resource'], about.get('group'))))}"
            return {"kind": "SelfSubjectAccessReview", "status": {"allowed": api.rights is None or words in api.rights}}
        return self._objects(api, path)

    def _objects(self, api: ApiLike, path: str) -> Any:
        gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        asked = _PATH.fullmatch(path)
        known = {one["name"]: one["kind"] for one in _resources(asked["version"])} if asked else {}
        if asked is None or asked["plural"] not in known or self.command != "GET":
            return {**gone, "message": "the server could not find the requested resource"}
        kind, namespace, name = known[asked["plural"]], asked["namespace"], asked["name"]
        itself = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": api.uid}}
        found = [
            {"apiVersion": asked["version"], **one}
            for one in (itself, *api.items)
            if one["kind"] == kind
            and one["metadata"].get("namespace", namespace) == (namespace or one["metadata"].get("namespace"))
        ]
        if not name:
            return {"kind": f"{kind}List", "apiVersion": asked["version"], "items": found}
        message = f'{asked["plural"]} "{name}" not found'
        missing = {**gone, "message": message, "details": {"name": name, "kind": asked["plural"]}}
        return next((one for one in found if one["metadata"]["name"] == name), missing)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 (its names)


def _certificate() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    number = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"api-{number % 10**9}")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    known = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), number, now - day, now + day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(known, critical=False)
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, made.public_bytes(pem)
