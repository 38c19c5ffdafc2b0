# SPDX-License-Identifier: Apache-2.0
"""A port-forward with a lifetime: a free loopback port, for this user only, that survives its pod."""

from __future__ import annotations

import contextlib
import errno
import socket
import socketserver
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from labkit import display
from labkit.cluster import client, identity
from labkit.cluster import target as targets
from labkit.cluster.backends import Backend, BackendError, find
from labkit.cluster.explain import explain
from labkit.ground import peers
from labkit.ground.errors import ClusterError, LabError, NoTargetError, NotReadyError

if TYPE_CHECKING:
    from labkit.cluster.tunnel import Stream

__all__ = ["PortForward", "port_forward"]

_FRESH = 1.0
"""Seconds for which a pod that was there is taken to be there still."""

_REPLACED = 10.0
"""Seconds that a connection waits for a pod while there is none: it is being replaced."""

_SHORT = 10.0
"""Seconds that an answer about a pod may take."""


class PortForward:
    """A running port-forward; use it in a `with` block, or call `close`.

    Each connection goes to a pod that is there by then. Other users of this machine are not let in, as they would be
    by `kubectl port-forward`, which it is like otherwise. It ends for good with the cluster it belongs to: when another
    is chosen, or another answers at its address.
    """

    def __init__(self, resource: str, port: int, *, namespace: str, local_port: int, timeout: float) -> None:
        self.resource = resource
        self.remote_port = port
        self.namespace = self._namespace = namespace
        self.port = local_port
        self._target = targets.checked(write=True)
        self._ended = threading.Event()
        self._seen = 0.0
        self.said = ""
        self._listener = self._listen()
        try:
            self._backend = self._first(timeout)
        except BaseException:
            self._listener.server_close()
            raise
        self._serving = threading.Thread(target=self._listener.serve_forever, name=f"port-forward {resource}")
        self._serving.daemon = True
        self._serving.start()
        targets.ends_with_target(self)
        _by_port[self.port] = self

    @property
    def command(self) -> str:
        """The command, as a learner types it."""
        scope = f" -n {self.namespace}" if self.namespace else ""
        local = self.port or ""
        return f"kubectl port-forward{scope} --address 127.0.0.1 {self.resource} {local}:{self.remote_port}"

    @property
    def url(self) -> str:
        """http://127.0.0.1:PORT"""
        return f"http://127.0.0.1:{self.port}"

    @property
    def bound(self) -> bool:
        """Whether connections get through now (not while the pod is being replaced)."""
        return not self.closed and self._there()

    @property
    def closed(self) -> bool:
        """Whether it has ended for good."""
        return self._ended.is_set()

    def wait_until_bound(self, timeout: float = 30.0) -> None:
        """Wait until connections get through (again).

        Raises:
            NotReadyError: Not within `timeout` seconds, or it has ended for good.
        """
        if self.closed:
            raise NotReadyError(f"{self.command} was ended", next_step="Run the cell that opened it again.")
        try:
            self._replaced(timeout)
        except (BackendError, ClusterError) as error:
            raise NotReadyError(
                f"{self.command} is not back after {timeout:g} s: {error}",
                next_step="Is there a ready pod behind it? `kubectl get pods` in its namespace.",
            ) from None

    def close(self) -> None:
        """End it, with its connections; its port is free afterwards."""
        self.end()
        self._serving.join()

    def end(self) -> None:
        """End it, and do not wait until it has."""
        if not self.closed:
            self._ended.set()
            self._listener.leave()

    def __enter__(self) -> PortForward:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PortForward({self.resource} {self.url} -> {self.remote_port})"

    def _listen(self) -> _Listener:
        try:
            listener = _Listener(self)
        except OSError as error:
            reason = "address already in use" if error.errno == errno.EADDRINUSE else error.strerror
            said = f"unable to listen on port {self.port}: listen tcp4 127.0.0.1:{self.port}: bind: {reason}"
            raise explain(self.command, said, 1, str(self._target)) from None
        self.port = int(listener.server_address[1])
        return listener

    def _first(self, timeout: float) -> Backend:
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self._find(max(0.1, deadline - time.monotonic()))
            except BackendError as error:
                # A pod that does not run yet may do so in a moment.
                soon = "not running" in str(error) or "no pod is running" in str(error)
                if not soon or time.monotonic() > deadline:
                    raise explain(self.command, str(error), 1, str(self._target)) from None
            time.sleep(0.1)

    def _client(self) -> client.Client:
        return client.of(self._target.file, str(self._target))

    def _get(self, *path: str, patience: float = _SHORT, **query: str) -> client.Obj:
        return self._client().ask(self.command, f"/{'/'.join(map(quote, path))}", query=query, patience=patience)

    def _find(self, patience: float = _SHORT) -> Backend:
        self._namespace = self._namespace or self._client().namespace
        return find(partial(self._get, patience=patience), self._namespace, self.resource, self.remote_port)

    def _there(self) -> bool:
        """Whether the pod that the last connection went to is still the one to go to."""
        backend = self._backend
        if time.monotonic() - self._seen < _FRESH:
            return True
        try:
            pod = self._get("api", "v1", "namespaces", backend.namespace, "pods", backend.pod)
        except ClusterError:
            return False
        self._seen = time.monotonic()
        meta = pod["metadata"]
        same = meta.get("uid", "") == backend.uid and not meta.get("deletionTimestamp")
        return same and pod["status"].get("phase") == "Running"

    def _replaced(self, timeout: float) -> None:
        """Wait for a pod that takes the place of the one that has gone, if it has.

        Raises:
            BackendError, ClusterError: There is none for too long.
            NoTargetError: It is the cluster that was replaced.
        """
        deadline = time.monotonic() + timeout
        while not self._there():
            if difference := identity.difference(self._target, thorough=False):
                self.end()
                raise NoTargetError(difference)
            try:
                self._backend = self._find()
                return
            except (BackendError, ClusterError):
                if self.closed or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def connect(self) -> Stream:
        """A connection to the pod, or to the one that takes its place.

        Raises:
            OSError: there is none for too long.
        """
        from labkit.cluster.tunnel import Stream

        try:
            self._replaced(_REPLACED)
            return Stream(self._client(), self._backend.namespace, self._backend.pod, self._backend.port)
        except (BackendError, LabError) as error:
            raise ConnectionRefusedError(str(error)) from None

    def doubt(self, error: OSError | None = None) -> None:
        """Look again for the pod before the next connection, and keep what the cluster said of this one."""
        self._seen = 0.0
        # What has a number is of a connection that broke, on either side.
        self.said = str(error) if error and not error.errno else ""


_by_port: weakref.WeakValueDictionary[int, PortForward] = weakref.WeakValueDictionary()


def not_passed_on(port: int | None) -> ClusterError | None:
    """The error for a connection to a port here that a port-forward could not pass on; None for any other port."""
    if (forward := _by_port.get(port or 0)) and forward.said and not forward.closed:
        return explain(forward.command, forward.said, 1, str(forward._target))
    return None


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, forward: PortForward) -> None:
        self.forward = forward
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", forward.port), _Connection)

    def verify_request(self, request: object, client_address: object) -> bool:
        """Whether who connects may."""
        return peers.ours(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away, or a pod that did, is no fault."""

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Keep it in mind, to end it with the forward."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """It has ended."""
        self._open.discard(request)
        super().shutdown_request(request)

    def leave(self) -> None:
        """Stop listening, and end what is open, without waiting for anybody."""
        # Unlike `shutdown`, which would wait for the thread that may be calling.
        threading.Thread(target=self.shutdown, daemon=True).start()
        self.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(socketserver.BaseRequestHandler):
    """Passes on what comes on either side."""

    server: _Listener
    request: socket.socket

    def handle(self) -> None:
        from labkit.cluster.tunnel import relay

        forward = self.server.forward
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with contextlib.closing(forward.connect()) as pod:
                forward.said = ""
                relay(self.request, pod, lambda: not forward.closed and peers.ours(self.request))
        except OSError as error:
            forward.doubt(error)


def port_forward(
    resource: str, port: int, *, namespace: str = "", local_port: int = 0, timeout: float = 20.0, show: bool = True
) -> PortForward:
    """Forward a free port of 127.0.0.1 to a pod, until closed.

    Args:
        resource: "pod/NAME", "svc/NAME" or "deploy/NAME".
        port: The port there.
        namespace: "" for the context's own.
        local_port: The port here; 0 for a free one.
        timeout: Seconds until it must be bound.
        show: Whether to show the command.

    Raises:
        ClusterError: There is no such object, its pod does not run, or the local port is taken.
    """
    forward = PortForward(resource, port, namespace=namespace, local_port=local_port, timeout=timeout)
    if show:
        display.show(display.command(forward.command, f"Forwarding from {forward.url} -> {port}"))
    return forward
