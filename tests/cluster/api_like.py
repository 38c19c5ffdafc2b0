# SPDX-License-Identifier: Apache-2.0
"""Something that kubectl takes for a cluster: an HTTPS server that tells who it is, and remembers who came."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import ipaddress
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websocket import ABNF
from websocket._abnf import frame_buffer

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
        told.append({**names, **about, "verbs": ["get", "list", "watch", "delete", "patch"]})
    return told


class PodSide:
    """The pod's side of a port-forward."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection
        self._frames = frame_buffer(self._some, skip_utf8_validation=True)

    def _some(self, size: int) -> bytes:
        data = self._connection.recv(size)
        if not data:
            raise ConnectionError("the other side has gone")
        return data

    def frame(self, data: bytes, kind: int = ABNF.OPCODE_BINARY) -> None:
        """Send one frame."""
        self._connection.sendall(ABNF(1, 0, 0, 0, kind, 0, data).format())

    def send(self, data: bytes, channel: int = 0) -> None:
        """Send data."""
        self.frame(bytes([channel]) + data)

    def receive(self) -> bytes:
        """The next data."""
        frame = self._frames.recv_frame()
        assert frame.data[0] == 0
        return bytes(frame.data[1:])


class ApiLike:
    """A server at `https://HOST:PORT`.

    Args:
        folder: Where its key goes.
        uid: Of its namespace kube-system.
        host: Its address.
    """

    def __init__(self, folder: Path, uid: str, host: str = "127.0.0.1") -> None:
        self.uid, self.host = uid, host
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
        self.changes: list[dict[str, Any]] = []
        """What watches were told, from the beginning on; a change's resourceVersion is its place here."""
        self.news = threading.Condition()
        self.forgotten = False
        """Whether all changes so far are too old to be told (410), as after a server's own restart."""
        self.silent = threading.Event()
        """While it is set nothing is answered."""
        key, certificate = _certificate(host)
        (folder / f"{uid}.pem").write_bytes(key + certificate)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / f"{uid}.pem")
        self.silent_about = ""
        """What paths have in them of which nothing is said then; "" for all."""
        self.may_watch = True
        self.pod: Callable[[PodSide], None] = lambda side: side.send(b"".join(iter(side.receive, b"")))
        """What a connection to a pod's port comes to."""
        self.listen()
        self.port = int(self.server.server_address[1])
        # Kept while nobody listens there, so that nobody else gets it meanwhile.
        self.held = socket.socket()
        self.held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.held.bind((host, self.port))
        self.url = f"https://{host}:{self.port}"
        self.authority = certificate
        self.entry = {"server": self.url, "certificate-authority-data": base64.b64encode(certificate).decode()}

    def listen(self, port: int = 0) -> None:
        """Take connections."""
        self.server = _Server((self.host, port), _Handler)
        self.server.api = self
        self._serving = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self._serving.start()

    def leave(self) -> None:
        """Take no connections any more, and end those there are."""
        self.server.shutdown()
        self.server.server_close()
        self._serving.join()
        self.drop()

    def change(self, one: dict[str, Any], how: str = "MODIFIED") -> None:
        """Put an object in the place of the one of its kind and name, and tell watches of it."""
        same = (one["kind"], one["metadata"]["name"])
        rest = [item for item in self.items if (item["kind"], item["metadata"]["name"]) != same]
        with self.news:
            about = {**one["metadata"], "resourceVersion": str(len(self.changes) + 1)}
            self.items = rest if how == "DELETED" else [*rest, {**one, "metadata": about}]
            self.changes.append({"type": how, "object": {**one, "metadata": about}})
            self.news.notify_all()

    def drop(self) -> None:
        """End every connection there is, from this side, as a server does that has waited long enough."""
        for connection in list(self.server.open):
            # One by one: who comes back meanwhile is not forgotten, and so stays.
            self.server.open.remove(connection)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def api_like(folder: Path, uid: str = "uid-a", host: str = "127.0.0.1") -> Iterator[ApiLike]:
    """One that ends with the block."""
    api = ApiLike(folder, uid, host)
    try:
        yield api
    finally:
        api.leave()
        api.held.close()


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
    allow_reuse_port = True
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
        while api.silent.is_set() and api.silent_about in path and path != "/":
            time.sleep(0.01)
        watched = "watch=true" in self.path
        if watched and api.may_watch:
            self._watch(api, path)
            return
        unasked = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "not to be watched"}
        refused = api.accepted and self.headers.get("Authorization", "") != api.accepted
        if path.endswith("/portforward") and not refused and path not in api.answers:
            self._forward(api)
            return
        denied = {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"}
        answer = denied if refused else unasked if watched else self._said(api, path, body)
        status = answer.get("code", 200) if isinstance(answer, dict) and answer.get("kind") == "Status" else 200
        text = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _forward(self, api: ApiLike) -> None:
        key = self.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key).digest()).decode())
        self.send_header("Sec-WebSocket-Protocol", self.headers["Sec-WebSocket-Protocol"])
        self.end_headers()
        self.close_connection = True
        side = PodSide(self.connection)
        for channel in (0, 1):
            side.send(int(self.path.partition("ports=")[2]).to_bytes(2, "little"), channel)
        with contextlib.suppress(OSError):
            api.pod(side)
            side.frame(b"", ABNF.OPCODE_CLOSE)

    def _watch(self, api: ApiLike, path: str) -> None:
        """Changes as they come, until the connection ends or the API is silent no more."""
        asked, query = _PATH.fullmatch(path), parse_qs(urlsplit(self.path).query)
        assert asked is not None
        kind = {one["name"]: one["kind"] for one in _resources(asked["version"])}[asked["plural"]]
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        seen = int(query["resourceVersion"][0])
        if api.forgotten and seen < len(api.changes):
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            self._line({"type": "ERROR", "object": gone})
            self.wfile.write(b"0\r\n\r\n")
            return
        while True:
            with api.news:
                if len(api.changes) <= seen:
                    api.news.wait(0.05)
                come, seen = api.changes[seen:], len(api.changes)
            if self.connection not in self.server.open:
                self.close_connection = True
                return
            for one in come:
                if one["object"]["kind"] == kind:
                    self._line(one)

    def _line(self, event: dict[str, Any]) -> None:
        text = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
        self.wfile.flush()

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
            field = parse_qs(urlsplit(self.path).query).get("fieldSelector", [""])[0].removeprefix("metadata.name=")
            found = [one for one in found if field in ("", one["metadata"]["name"])]
            about = {"resourceVersion": str(len(api.changes))}
            return {"kind": f"{kind}List", "apiVersion": asked["version"], "metadata": about, "items": found}
        message = f'{asked["plural"]} "{name}" not found'
        missing = {**gone, "message": message, "details": {"name": name, "kind": asked["plural"]}}
        return next((one for one in found if one["metadata"]["name"] == name), missing)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 (its names)


def _certificate(host: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    number = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"api-{number % 10**9}")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
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
