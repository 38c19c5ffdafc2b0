# SPDX-License-Identifier: Apache-2.0
"""Whether a sandbox answers whoever uses its kubeconfig: what the command line means by "running"."""

from __future__ import annotations

import base64
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labkit.ground import files
from labkit.ground.client import Connections
from meshbox.healing import healing

__all__ = ["Access", "access", "answers", "mended"]


@dataclass(frozen=True)
class Access:
    """What a kubeconfig says of its sandbox.

    Args:
        node: The server's address.
        port: Its port.
        authority: The certificate that it is trusted by, in PEM.
        token: The bearer token.
    """

    node: str
    port: int
    authority: str
    token: str = field(repr=False)


def access(kubeconfig: Path) -> Access:
    """What is in a sandbox's kubeconfig.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged; the message says how, without the file's name.
        OSError: it cannot be read.
    """
    content = files.read(kubeconfig).decode()
    try:
        try:
            config: Any = json.loads(content)
        except ValueError:
            # kubectl writes YAML, when its user has changed something in it. Slow to import, and seldom needed.
            import yaml

            config = yaml.safe_load(content)
        # Not the current one: what makes clusters writes to the first file of $KUBECONFIG, and chooses what it made.
        name = f"labkit-{kubeconfig.parent.name}"
        context = _named(config["contexts"], name)["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        url = urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"], validate=True).decode()
        token = str(_named(config["users"], context["user"])["user"]["token"])
        return Access(str(url.hostname), int(url.port or 443), authority, token)
    except Exception as error:
        # Whatever there is in it, and whatever a parser says of it: it is not what was written.
        raise ValueError("is not a kubeconfig of this sandbox") from error


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


def answers(found: Access) -> str:
    """Why a client with this kubeconfig is not served; "" if it is.

    Only the sandbox's own server can show a certificate of its authority, and only it knows the token.
    """
    try:
        context = ssl.create_default_context(cadata=found.authority)
    except (ssl.SSLError, ValueError):
        return "its kubeconfig is damaged: it has no certificate in it"
    try:
        with Connections(found.node, found.port, 2, trust=lambda: context) as api:
            status = api.request("GET", "/api", {"Authorization": f"Bearer {found.token}"}).status
    except ssl.SSLCertVerificationError:
        return f"the server at {found.node}:{found.port} is not the one that its kubeconfig trusts"
    except (OSError, ValueError):
        return f"nobody answers at {found.node}:{found.port}"
    return "" if status == 200 else f"its server answers {status} to the token in its kubeconfig"


def mended(kubeconfig: Path) -> tuple[str, ...]:
    """What the sandbox that a kubeconfig leads to is mending, a sentence each; also where it cannot be asked."""
    try:
        found = access(kubeconfig)
        context = ssl.create_default_context(cadata=found.authority)
        token = {"Authorization": f"Bearer {found.token}"}
        with Connections(found.node, found.port, 5, trust=lambda: context) as api:
            listed = [
                json.loads(api.request("GET", f"/api/v1/{path}", token).body)["items"]
                for path in ("pods", "events?fieldSelector=involvedObject.kind%3DNode")
            ]
        return tuple(healing(*listed))
    except (OSError, ValueError, KeyError):
        return ("what it is mending cannot be said: its API did not answer in time",)
