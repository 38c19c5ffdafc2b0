# SPDX-License-Identifier: Apache-2.0
"""The subresources of a pod that are streams: log, exec, attach and portforward."""

from __future__ import annotations

from aiohttp import web

from meshbox.api.streams.attach import serve_attach
from meshbox.api.streams.execute import serve_exec
from meshbox.api.streams.logs import serve_log
from meshbox.api.streams.portforward import serve_portforward
from meshbox.contracts import Obj, PodRuntime

__all__ = ["handle"]

_SERVE = {"log": serve_log, "exec": serve_exec, "attach": serve_attach, "portforward": serve_portforward}


async def handle(request: web.Request, runtime: PodRuntime, pod: Obj, subresource: str) -> web.StreamResponse:
    """Answer a request for a stream of `pod`.

    Args:
        request: GET (WebSocket, log) or POST (SPDY) of the subresource, already allowed.
        runtime: The node that runs the pod.
        pod: The pod as stored.
        subresource: "log", "exec", "attach" or "portforward".

    Returns:
        The answer, fully sent: over when the stream is over, whichever side ended it.

    Raises:
        ApiError: what is wrong with the request or the pod, always before the answer has begun.
    """
    return await _SERVE[subresource](request, runtime, pod)
