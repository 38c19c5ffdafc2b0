# SPDX-License-Identifier: Apache-2.0
"""Istio's WebSocket sample: a page that talks to the server it came from, and shows what comes back."""

from __future__ import annotations

from labkit.ground.web import Request, Response, serve
from meshbox.images import websocket
from meshbox.images.context import Image
from meshbox.images.guarded import guarded

__all__ = ["IMAGES", "answer", "main"]

_PORT = 8888

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>WebSocket</title></head>
<body><h1>A WebSocket through the mesh</h1>
<form><label>Say <input name="text" autofocus></label> <button>Send</button></form><ol></ol>
<script>
const socket = new WebSocket(location.href.replace(/^http/, "ws").replace(/[^/]*$/, "ws"));
socket.onmessage = ({data}) => {
  const line = document.createElement("li");
  line.textContent = data;
  document.querySelector("ol").append(line);
};
document.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  socket.send(event.target.elements.text.value);
};
</script></body></html>
"""


def answer(request: Request) -> Response:
    """One request."""
    if request.path == "/ws":
        return websocket.accept(request)
    return Response(200, _PAGE) if request.path == "/" else Response(404, "404: Not Found\n", content_type="text/plain")


def main() -> int:
    """The program."""
    print(f"a WebSocket sample on port {_PORT}", flush=True)
    return serve({_PORT: guarded(answer)})


IMAGES = (
    Image(
        repositories=("hiroakis/tornado-websocket-example",),
        entrypoint=("python", "app.py"),
        programs={"python": f"{__name__}:main"},
        size=300_000_000,
        stands_in="sends back what it is sent, written in Python",
    ),
)
