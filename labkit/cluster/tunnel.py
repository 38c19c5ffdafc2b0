"""A way to the API server that only this user has, by `kubectl proxy`, and connections to pods' ports through it.

`kubectl port-forward` itself listens at a port of this machine, where every login may connect. `kubectl proxy` can
listen at a Unix socket, and knows every way of a kubeconfig to show who one is. So the port is ours, which looks at who
connects, and kubectl's part is the cluster. The words on the way are the API's own (`v4.channel.k8s.io`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from typing import Any
from urllib.parse import quote, urlencode

from labkit.cluster import identity, scratch
from labkit.cluster.kubeconfig import Chosen, kubectl_program
from labkit.cluster.leash import sure_leash
from labkit.ground.errors import ClusterError

__all__ = ["Tunnel", "TunnelError"]

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1


class TunnelError(Exception):
    """What the API server said instead of what was asked for, in kubectl's words."""


class Tunnel:
    """`kubectl proxy` at a socket of ours, started again whenever it ends.

    Args:
        target: Which cluster.
    """

    def __init__(self, target: Chosen) -> None:
        self._target = target
        self._stopped = threading.Event()
        self._up = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._socket = -1
        self.said = ""
        """What kubectl said last."""
        self._keeper = threading.Thread(target=self._keep, name=f"kubectl proxy to {target}", daemon=True)
        self._keeper.start()

    @property
    def up(self) -> bool:
        """Whether kubectl takes requests now."""
        return self._up.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait until kubectl takes requests; whether it does, `timeout` seconds later at the latest."""
        deadline = time.monotonic() + timeout
        while not self._up.wait(0.05):
            if not self._keeper.is_alive() or time.monotonic() > deadline:
                return False
        return True

    def close(self) -> None:
        """End it."""
        self.end()
        self._keeper.join(timeout=5.0)

    def end(self) -> None:
        """End it, and do not wait until it has."""
        self._stopped.set()
        process = self._process
        if process is not None:
            process.terminate()

    def get(self, *path: str, **query: str) -> Any:
        """An object or a list, by the parts of its path below the API server's root.

        Raises:
            TunnelError: the API server refused.
            OSError: kubectl does not answer.
        """
        import http.client

        url = "/" + "/".join(quote(part, safe="") for part in path) + (f"?{urlencode(query)}" if query else "")
        connection = http.client.HTTPConnection("localhost", timeout=30)
        with contextlib.closing(connection), self._connected() as connection.sock:
            try:
                connection.request("GET", url, headers={"Accept": "application/json"})
                answer = connection.getresponse()
                said = answer.read()
            except http.client.HTTPException as error:
                raise ConnectionError(str(error)) from error
        content: Any = None
        with contextlib.suppress(ValueError):
            content = json.loads(said)
        if answer.status == 200 and isinstance(content, dict):
            return content
        if isinstance(content, dict) and content.get("kind") == "Status":
            raise TunnelError(f"Error from server ({content.get('reason') or answer.status}): {content.get('message')}")
        raise TunnelError(f"error: {said.decode(errors='replace').strip() or answer.reason}")

    def open(self, namespace: str, pod: str, port: int) -> Stream:
        """A connection to a port of a pod.

        Raises:
            OSError: it does not come about.
        """
        import websocket

        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/portforward?ports={port}"
        way = self._connected()
        try:
            made = websocket.create_connection(
                f"ws://localhost{path}", socket=way, subprotocols=[_PROTOCOL], suppress_origin=True
            )
        except (websocket.WebSocketException, OSError) as error:
            way.close()
            raise ConnectionError(f"{pod}:{port}: {error}") from error
        way.settimeout(None)
        return Stream(made, way)

    def _connected(self) -> socket.socket:
        if not self._up.wait(5.0):
            raise ConnectionRefusedError(f"kubectl proxy does not run: {self.said.strip()}")
        way = socket.socket(socket.AF_UNIX)
        way.settimeout(30.0)
        try:
            # Its name is gone since kubectl has bound it: this descriptor is the only way there.
            way.connect(f"/proc/self/fd/{self._socket}")
        except OSError:
            way.close()
            raise
        return way

    def _keep(self) -> None:
        # All starts are this thread's: the kernel's leash holds to the thread that started the process.
        pause, ever = 0.1, False
        while not self._stopped.is_set():
            if ever and identity.difference(self._target, thorough=False):
                return  # what is there now is somebody else's
            try:
                served = self._once()
            except OSError as error:
                # No room for its folder, or for one more process.
                served, self.said = False, f"kubectl proxy cannot be started: {error}"
            if served:
                pause, ever = 0.1, True
            elif not ever:
                return  # the caller is told why; another try would only be refused again
            self._stopped.wait(pause)
            pause = min(pause * 2, 2.0)

    def _once(self) -> bool:
        try:
            program = kubectl_program()
        except ClusterError as error:
            self.said = str(error)
            return False
        lines: list[str] = []
        # Its own folder lets nobody else in; a short name, as a socket's may be no longer than 107 bytes.
        with contextlib.ExitStack() as stack:
            folder = scratch.make(_short_folder())
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            place = folder / "api"
            command = [program, *self._target.arguments, "proxy", "--unix-socket", str(place)]
            process = subprocess.Popen(
                [*sure_leash(), *command],
                env=self._target.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self._process = process
            if self._stopped.is_set():
                process.terminate()
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                self.said = "".join(lines[-5:])
                if line.startswith("Starting to serve on"):
                    try:
                        self._socket = os.open(place, os.O_PATH | os.O_CLOEXEC)
                    except OSError:
                        process.kill()
                        process.wait()
                        raise
                    break
        with process:
            if self._socket >= 0:
                self._up.set()
            # Read to its end, so that kubectl never waits for somebody to listen.
            for line in process.stdout:
                lines = [*lines[-4:], line]
                self.said = "".join(lines)
        self._up.clear()
        ever, opened = self._socket >= 0, self._socket
        self._socket = -1
        if ever:
            os.close(opened)
        return ever


def _short_folder() -> str | None:
    return None if len(os.fsencode(tempfile.gettempdir())) < 60 else "/tmp"  # noqa: S108 (a folder of ours within)


class Stream:
    """A connection to a pod's port, as bytes.

    Args:
        made: The WebSocket.
        way: What it runs on.
    """

    def __init__(self, made: Any, way: socket.socket) -> None:
        self._made = made
        self._way = way
        self._begun: set[int] = set()

    def send(self, data: bytes) -> None:
        """Send.

        Raises:
            OSError: the connection is gone.
        """
        import websocket

        try:
            self._made.send_binary(bytes([_DATA]) + data)
        except websocket.WebSocketException as error:
            raise ConnectionError(str(error)) from error

    def receive(self) -> bytes:
        """The next bytes; b"" at the end.

        Raises:
            ConnectionError: with what the cluster says of it.
        """
        import websocket

        while True:
            try:
                message = self._made.recv()
            except websocket.WebSocketConnectionClosedException:
                return b""
            except (websocket.WebSocketException, OSError) as error:
                raise ConnectionError(str(error)) from error
            if not message:
                return b""
            channel, data = message[0], bytes(message[1:])
            if channel not in self._begun:
                # Each channel begins with the port that it belongs to.
                self._begun.add(channel)
            elif channel == _ERROR:
                raise ConnectionError(data.decode(errors="replace"))
            elif data:
                return data

    def close(self) -> None:
        """End it, in both directions at once; a `receive` of another thread ends as well."""
        with contextlib.suppress(OSError):
            self._way.shutdown(socket.SHUT_RDWR)
        self._way.close()
