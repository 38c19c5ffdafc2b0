"""Something that kubectl takes for a cluster: an HTTPS server that tells who it is, and remembers who came."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_KINDS = [
    {"name": "namespaces", "singularName": "namespace", "kind": "Namespace", "namespaced": False, "verbs": []},
    {"name": "configmaps", "singularName": "configmap", "kind": "ConfigMap", "namespaced": True, "verbs": []},
]


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
        self.logins: list[str] = []
        key, certificate = _certificate()
        (folder / f"{uid}.pem").write_bytes(key + certificate)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / f"{uid}.pem")
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.api = self
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        self.authority = certificate
        self.entry = {"server": self.url, "certificate-authority-data": base64.b64encode(certificate).decode()}


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

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self.api.connections += 1
        with contextlib.suppress(OSError):
            super().process_request_thread(self.api.context.wrap_socket(request, server_side=True), client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no fault."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Kept in `requests`."""

    def _answer(self) -> None:
        api, path = self.server.api, self.path.partition("?")[0]
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        api.requests.append(f"{self.command} {path}")
        api.logins.append(self.headers.get("Authorization", ""))
        itself = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": api.uid}}
        answers: dict[str, Any] = {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": _KINDS},
            "/api/v1/namespaces": {"kind": "NamespaceList", "apiVersion": "v1", "items": [itself]},
            "/api/v1/namespaces/kube-system": itself,
        }
        gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(answers.get(path, gone)).encode()
        self.send_response(200 if path in answers else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

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
