# SPDX-License-Identifier: Apache-2.0
"""A webhook server of a user's own, as a pod: it changes what is written, refuses it, and goes away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.api.hooks import keys
from tests.conftest import SandboxUnderTest, wait_until

SERVER = """
import base64, json, ssl, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        response = {"uid": request["uid"], "allowed": True}
        if self.path.startswith("/mutate"):
            owner = {"owner": request["userInfo"]["username"]}
            steps = [{"op": "add", "path": "/metadata/annotations", "value": owner}]
            response.update(patchType="JSONPatch", patch=base64.b64encode(json.dumps(steps).encode()).decode())
        elif any(one["image"].endswith(":latest") for one in request["object"]["spec"]["containers"]):
            response.update(allowed=False, status={"code": 403, "message": "say which version, not latest"})
        else:
            response["warnings"] = ["this image was looked at"]
        body = json.dumps({**review, "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server = HTTPServer(("", 8443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def _server() -> dict[str, Any]:
    """The pod and its Service."""
    container = {
        "name": "server",
        "image": "python:3.12-slim",
        "command": ["python", "/code/server.py", "/keys/tls.pem"],
        "ports": [{"containerPort": 8443, "name": "https"}],
        "readinessProbe": {"tcpSocket": {"port": "https"}},
        "volumeMounts": [{"name": one, "mountPath": f"/{one}"} for one in ("code", "keys")],
    }
    volumes = [{"name": "code", "configMap": {"name": "code"}}, {"name": "keys", "secret": {"secretName": "keys"}}]
    meta = {"name": "hooks", "labels": {"app": "hooks"}}
    spec = {"selector": {"app": "hooks"}, "ports": [{"port": 443, "targetPort": "https"}]}
    items: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container], "volumes": volumes}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hooks"}, "spec": spec},
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _configurations(bundle: str) -> dict[str, Any]:
    """Both kinds of webhooks, for pods of namespaces that ask for them."""

    def one(kind: str, path: str) -> dict[str, Any]:
        webhook = {
            "name": f"{path}.hooks.example.com",
            "clientConfig": {
                "service": {"name": "hooks", "namespace": "tools", "path": f"/{path}"},
                "caBundle": bundle,
            },
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "namespaceSelector": {"matchLabels": {"hooks": "on"}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 30,
        }
        meta = {"name": path}
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}WebhookConfiguration",
            "metadata": meta,
            "webhooks": [webhook],
        }

    items = [one("Mutating", "mutate"), one("Validating", "validate")]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def test_a_webhook_server_as_a_pod(start_sandbox: Callable[..., SandboxUnderTest], tmp_path: Path) -> None:
    sandbox = start_sandbox("1.30.3")
    file, bundle = keys(tmp_path, "hooks.tools.svc")
    code = tmp_path / "server.py"
    code.write_text(SERVER)
    for name in ("tools", "shop"):
        sandbox.kubectl("create", "namespace", name)
    sandbox.kubectl("label", "namespace", "shop", "hooks=on")
    sandbox.kubectl("-n", "tools", "create", "configmap", "code", f"--from-file={code}")
    sandbox.kubectl("-n", "tools", "create", "secret", "generic", "keys", f"--from-file=tls.pem={file}")
    sandbox.kubectl("-n", "tools", "apply", "-f", "-", stdin=json.dumps(_server()))
    sandbox.kubectl("-n", "tools", "wait", "--for=condition=Ready", "pod/hooks", "--timeout=120s")

    def answering() -> list[Any]:
        """Who is behind the Service: it hears of its pods later than kubectl."""
        found = json.loads(sandbox.kubectl("-n", "tools", "get", "endpoints,endpointslices", "-o", "json").stdout)[
            "items"
        ]
        subsets = [subset for one in found for subset in one.get("subsets") or []]
        ends = [
            end for one in found for end in one.get("endpoints") or [] if end["conditions"].get("ready") is not False
        ]
        return [*ends, *(address for subset in subsets for address in subset.get("addresses") or [])]

    # Webhooks are called by the one, and the other is written by somebody else.
    wait_until(lambda: len(answering()) == 2, what="the pod behind its Service, in its endpoints and in their slice")
    told = sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(_configurations(bundle)))
    assert told.stderr == ""

    # Who asks by himself.
    refused = sandbox.kubectl("-n", "shop", "run", "web", "--image=nginx:latest", check=False)
    said = 'admission webhook "validate.hooks.example.com" denied the request: say which version, not latest'
    assert (refused.returncode, refused.stderr) == (1, f"Error from server: {said}\n")
    made = sandbox.kubectl("-n", "shop", "run", "web", "--image=nginx:1.29")
    assert (made.stdout, made.stderr) == ("pod/web created\n", "Warning: this image was looked at\n")
    annotation = "jsonpath={.metadata.annotations.owner}"
    assert sandbox.kubectl("-n", "shop", "get", "pod", "web", "-o", annotation).stdout == "kubernetes-admin"
    # What a controller makes.
    sandbox.kubectl("-n", "shop", "create", "deployment", "site", "--image=nginx:1.29", "--replicas=2")
    sandbox.kubectl("-n", "shop", "rollout", "status", "deployment/site", "--timeout=180s")
    owners = "jsonpath={.items[*].metadata.annotations.owner}"
    who = "system:serviceaccount:kube-system:replicaset-controller"
    assert sandbox.kubectl("-n", "shop", "get", "pods", "-l", "app=site", "-o", owners).stdout == f"{who} {who}"
    # Other namespaces are no business of it.
    sandbox.kubectl("-n", "tools", "run", "web", "--image=nginx:latest")

    # Nobody answers: all is refused, until somebody says that it does not matter.
    sandbox.kubectl("-n", "tools", "delete", "pod", "hooks", "--now")
    wait_until(lambda: not answering(), what="nobody behind the Service")
    gone = sandbox.kubectl("-n", "shop", "run", "late", "--image=nginx:1.29", check=False)
    call = 'Post "https://hooks.tools.svc:443/mutate?timeout=30s": no endpoints available for service "hooks"'
    failed = f'failed calling webhook "mutate.hooks.example.com": failed to call webhook: {call}'
    assert gone.stderr == f"Error from server (InternalError): Internal error occurred: {failed}\n"
    ignore = json.dumps([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}])
    for name in ("mutatingwebhookconfiguration/mutate", "validatingwebhookconfiguration/validate"):
        sandbox.kubectl("patch", name, "--type=json", "-p", ignore)
    assert sandbox.kubectl("-n", "shop", "run", "late", "--image=nginx:latest").stdout == "pod/late created\n"
