# SPDX-License-Identifier: Apache-2.0
"""What a component of the control plane says of its work, which the mesh does: it asks the mesh."""

from __future__ import annotations

import os
import sys
from urllib.parse import urlencode

from labkit.ground.client import Answer, send

__all__ = ["ask_mesh", "work_of"]

_NAME = "xds-grpc"
"""The mesh answers to this name only: proxies have it for their control plane."""


def ask_mesh(path: str, query: dict[str, str] | None = None, body: bytes | None = None) -> Answer:
    """Ask the mesh, in the name of this pod; with a body by POST.

    Args:
        path: From "/" on.
        query: More of it, besides the pod that asks.
        body: What is posted.

    Raises:
        OSError: It does not answer.
    """
    host, _, port = os.environ.get("LABKIT_MESH", "").partition(":")
    if not port:
        raise ConnectionRefusedError("no mesh is known here")
    asker = {"namespace": os.environ.get("LABKIT_NAMESPACE", ""), "pod": os.environ.get("HOSTNAME", "")}
    headers = {"Host": _NAME, "Authorization": f"Bearer {os.environ.get('LABKIT_MESH_TOKEN', '')}"}
    url = f"http://{host}:{port}{path}?{urlencode({**(query or {}), **asker})}"
    return send(url, "GET" if body is None else "POST", headers, body, timeout=3)


def work_of(component: str) -> str:
    """Lines of metrics about the component's work; none where the mesh does not answer."""
    if not os.environ.get("LABKIT_MESH"):
        return ""
    try:
        answer = ask_mesh(f"/metrics/{component}")
    except OSError as error:
        print(f"the mesh does not say what it has done: {error}", file=sys.stderr, flush=True)
        return ""
    return answer.text if answer.status == 200 else ""
