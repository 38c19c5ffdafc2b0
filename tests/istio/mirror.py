# SPDX-License-Identifier: Apache-2.0
"""A download server that can be told to misbehave."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


def archive(files: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    """A .tar.gz of `files`, and of members without content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return out.getvalue()


class Mirror:
    """What is served, and how.

    `cut` is how many bytes of an answer are sent before the connection ends, one entry an answer; `stall` makes the
    server keep the connection open instead of closing it.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: list[int] = []
        self.stall = False
        self.ranges = True
        self.status = 200
        self.asked: list[tuple[str, str]] = []
        self.coming = 0
        """Bytes of the latest answer that will be sent, known before its head is."""
        self.released = threading.Event()
        self.url = ""

    def publish(self, path: str, content: bytes, *, checksum: str = "") -> None:
        """Serve `content`, and its SHA-256 beside it."""
        name = path.rpartition("/")[2]
        self.files[path] = content
        self.files[f"{path}.sha256"] = f"{checksum or hashlib.sha256(content).hexdigest()}  {name}\n".encode()

    def bodies(self, path: str) -> list[str]:
        """The Range header of each request for `path` ("" without one)."""
        return [sent for asked, sent in self.asked if asked == path]


@contextmanager
def silence_is_the_mirrors(mirror: Mirror) -> Iterator[None]:
    """How long nothing may come counts once all has come that the mirror sends: a busy machine is no silent server."""
    opened = urllib.request.urlopen

    def patient(request: urllib.request.Request, *, timeout: float) -> Any:
        answer = opened(request, timeout=600)
        left, read1 = mirror.coming, answer.read1

        def read(most: int) -> bytes:
            nonlocal left
            if left == 0:
                answer.fp.raw._sock.settimeout(timeout)
            got = bytes(read1(min(most, left) if left else most))
            left -= len(got)
            return got

        answer.read1 = read
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urllib.request, "urlopen", patient)
        yield


@contextmanager
def serve() -> Iterator[Mirror]:
    """A running mirror on a port of its own."""
    mirror = Mirror()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path, sent = self.path, self.headers.get("Range", "")
            mirror.asked.append((path, sent))
            content = mirror.files.get(path)
            self.close_connection = True
            if content is None or mirror.status != 200:
                self._answer(404 if content is None else mirror.status, b"", {})
                return
            asked = re.fullmatch(r"bytes=(\d+)-", sent)
            start = int(asked[1]) if asked and mirror.ranges else 0
            if start >= len(content) and start:
                self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            elif start:
                span = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self._answer(206, content[start:], {"Content-Range": span}, path)
            else:
                self._answer(200, content, {}, path)

        def _answer(self, status: int, body: bytes, fields: dict[str, str], path: str = "") -> None:
            sent = mirror.cut.pop(0) if mirror.cut and path.endswith(".tar.gz") else len(body)
            mirror.coming = min(sent, len(body))
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body[:sent])
            self.wfile.flush()
            if sent < len(body) and mirror.stall:
                mirror.released.wait(600)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        mirror.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield mirror
        finally:
            mirror.released.set()
            server.shutdown()
            thread.join()
