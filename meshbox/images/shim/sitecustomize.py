# SPDX-License-Identifier: Apache-2.0
"""Gives a Python program in a pod what a network namespace and the cluster's DNS would.

Loaded by any Python whose PYTHONPATH holds this folder, and by the node's own before it runs a container. A pod has no
network namespace here, so that

- the host is called as the pod (HOSTNAME);
- names of Services are looked up in the cluster's name file (LABKIT_DNS), with the search domains of the namespace;
- "localhost" and 127.0.0.1 are the pod's own address (LABKIT_LOCAL_IP);
- a server that binds every address binds the one that is the application's (LABKIT_BIND);
- behind a sidecar (LABKIT_CAPTURE_SOCKET) a connection to anything in the cluster goes to the sidecar, which is told
  in a PROXY protocol header where it was meant to go: what iptables and SO_ORIGINAL_DST do elsewhere;
- what the sidecar is told to leave alone (LABKIT_INTERCEPTION) goes there directly, and is bound at the pod IP;
- a server takes connections of this user's own processes only: another pod's network is as far away elsewhere.

Ports below 1024 are shifted as the node shifts them (LABKIT_LOW_PORT_SHIFT).
Standard library only, and quick to load: every Python in every pod does.
"""

from __future__ import annotations

import _socket
import errno
import importlib
import os
import socket
import weakref
from collections.abc import Mapping
from typing import Any

__all__ = ["install", "pod_names"]

_FLAG = "_labkit_shim"


class _Names:
    """The cluster's names, read again when the file is replaced."""

    def __init__(self, file: str, namespace: str, *, captured: bool = False, own: tuple[str, str] = ("", "")) -> None:
        self._file = file
        self._own = own
        self._namespace = namespace
        self._captured = captured
        self._entries: dict[str, str] = {}
        self._stamp: tuple[int, int] = (0, 0)
        self._services: dict[str, str] = {}
        self._headless: dict[str, list[str]] = {}
        self._external: dict[str, str] = {}
        self._pods: dict[str, str] = {}

    def _refresh(self) -> None:
        try:
            stat = os.stat(self._file)
            stamp = (stat.st_mtime_ns, stat.st_ino)
            if stamp == self._stamp:
                return
            import json

            with open(self._file, encoding="utf-8") as file:
                content = json.load(file)
        except (OSError, ValueError):
            return
        self._stamp = stamp
        self._services = {name: entry["ip"] for name, entry in content.get("services", {}).items()}
        self._headless = content.get("headless", {})
        self._external = content.get("external", {})
        self._pods = content.get("pods", {})
        if self._captured:
            # A sidecar that answers DNS also knows the hosts of ServiceEntries.
            self._entries = content.get("entries", {})

    def _key(self, host: str) -> str | None:
        """ "name.namespace" of a Service's name in any of its forms; None for other names."""
        labels = host.rstrip(".").lower().split(".")
        if len(labels) == 1:
            return f"{labels[0]}.{self._namespace}"
        if len(labels) == 2 or labels[2:] in (["svc"], ["svc", "cluster"], ["svc", "cluster", "local"]):
            return f"{labels[0]}.{labels[1]}"
        return None

    def addresses(self, host: str) -> list[str]:
        """The addresses of a Service's name, or of a pod's below it; none where it is neither."""
        for _ in range(8):
            found, host = self._answer(host)
            if found or not host:
                return found
        return []

    def _answer(self, host: str) -> tuple[list[str], str]:
        """The addresses of a name, or the name that it stands for; neither where it is no Service."""
        if host == self._own[0] and all(self._own):
            # /etc/hosts has a pod's own name.
            return [self._own[1]], ""
        self._refresh()
        whole = host.rstrip(".").lower().removesuffix(".cluster.local").removesuffix(".svc")
        for name in (whole, f"{whole}.{self._namespace}"):
            if name in self._pods:
                return [self._pods[name]], ""
        key = self._key(host)
        if known := self._entries.get(host.rstrip(".").lower()):
            return [known], ""
        if key is None:
            return [], ""
        if key in self._services:
            return [self._services[key]], ""
        name, _, namespace = key.partition(".")
        full = f"{namespace}/{name}"
        return list(self._headless.get(full, ())), self._external.get(full, "")

    def alias(self, host: str) -> str:
        """The name that an ExternalName Service stands for; `host` itself otherwise."""
        key = self._key(host)
        if key is None:
            return host
        self._refresh()
        name, _, namespace = key.partition(".")
        return self._external.get(f"{namespace}/{name}", host)


def _is_localhost(host: object) -> bool:
    return host in ("localhost", "127.0.0.1", "::1", "ip6-localhost")


def pod_names(env: Mapping[str, str]) -> _Names:
    """The names that a pod finds.

    Args:
        env: Where the LABKIT_ variables are.
    """
    captured = bool(env.get("LABKIT_CAPTURE_SOCKET")) and env.get("LABKIT_DNS_CAPTURE") == "true"
    own = env.get("HOSTNAME", ""), env.get("LABKIT_POD_IP", "")
    return _Names(env.get("LABKIT_DNS", ""), env.get("LABKIT_NAMESPACE", "default"), captured=captured, own=own)


def _be_called(name: str) -> None:
    """Let the pod's name be that of its host."""
    real, plain = os.uname, type(os.uname())

    def uname() -> os.uname_result:
        system, _, *others = real()
        return plain((system, name, *others))

    os.uname = uname
    socket.gethostname = lambda: name


def install(environ: Mapping[str, str] | None = None) -> None:
    """Put the pod's view of the network in place, once; nothing happens outside a pod.

    Args:
        environ: Where the LABKIT_ variables are; the process's own environment by default.
    """
    env = os.environ if environ is None else environ
    local, pod = env.get("LABKIT_LOCAL_IP", ""), env.get("LABKIT_POD_IP", "")
    if not local or getattr(socket, _FLAG, False):
        return
    setattr(socket, _FLAG, True)
    capture = env.get("LABKIT_CAPTURE_SOCKET", "")
    if name := env.get("HOSTNAME", ""):
        _be_called(name)
    names = pod_names(env)
    bind = env.get("LABKIT_BIND") or pod
    shift = int(env.get("LABKIT_LOW_PORT_SHIFT") or 0)
    _Network(names, local, pod, bind, capture, shift, env.get("LABKIT_INTERCEPTION", "")).put_in_place()


def _connections() -> Any:
    """What only programs that connect or listen need; its name is one that no program of a pod has."""
    return importlib.import_module("labkit_captured")


class _Network:
    def __init__(
        self, names: _Names, local: str, pod: str, bind: str, capture: str, shift: int, exceptions: str = ""
    ) -> None:
        self._names = names
        self._local = local
        self._pod = pod
        self._bind = bind
        self._capture = capture
        self._meant: weakref.WeakKeyDictionary[socket.socket, tuple[str, int]] = weakref.WeakKeyDictionary()
        self._shift = shift
        # Almost no sidecar leaves anything alone.
        self._interception = _connections().interception(exceptions) if exceptions else None
        # Everything of this sandbox has the same second number: 127.X.…
        self._block = ".".join(local.split(".")[:2]) + "."

    def put_in_place(self) -> None:
        """Replace what the socket module looks up, connects and binds with."""
        self._lookup()
        self._connecting()
        self._binding()
        self._accepting()
        if self._capture:
            self._seeming()

    def _accepting(self) -> None:
        real_accept = socket.socket._accept  # type: ignore[attr-defined]

        def _accept(self: socket.socket) -> tuple[int, object]:
            while True:
                descriptor, address = real_accept(self)
                connection = _socket.socket(fileno=descriptor)
                if _connections().ours(connection):
                    connection.detach()
                    return descriptor, address
                connection.close()

        socket.socket._accept = _accept  # type: ignore[attr-defined]

    def _seeming(self) -> None:
        """What is connected to the sidecar is no TCP underneath, and still answers as if it were."""
        real_option, real_peer, real_name = (
            socket.socket.setsockopt,
            socket.socket.getpeername,
            socket.socket.getsockname,
        )
        network = self

        def setsockopt(self: socket.socket, level: int, *more: Any) -> None:
            try:
                real_option(self, level, *more)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP or level not in (socket.IPPROTO_TCP, socket.IPPROTO_IP):
                    raise

        def getpeername(self: socket.socket) -> object:
            seen = real_peer(self)
            if self.family == socket.AF_INET and not isinstance(seen, tuple):
                return network._meant.get(self, (network._local, 0))
            return seen

        def getsockname(self: socket.socket) -> object:
            seen = real_name(self)
            return (network._pod, 0) if self.family == socket.AF_INET and not isinstance(seen, tuple) else seen

        socket.socket.setsockopt = setsockopt  # type: ignore[method-assign,assignment]
        socket.socket.getpeername = getpeername  # type: ignore[method-assign,assignment]
        socket.socket.getsockname = getsockname  # type: ignore[method-assign,assignment]

    def _binding(self) -> None:
        real_bind = socket.socket.bind
        network = self

        def bind(self: socket.socket, address: object) -> None:
            if self.family == socket.AF_INET and isinstance(address, tuple) and len(address) == 2 and address[1]:
                host, port = address
                if host in ("", "0.0.0.0", network._bind):
                    host = network.bound(port)
                elif _is_localhost(host):
                    host = network._local
                if isinstance(host, str) and host.startswith(network._block) and isinstance(port, int):
                    address = host, network.real(port)
            real_bind(self, address)  # type: ignore[arg-type]

        socket.socket.bind = bind  # type: ignore[method-assign,assignment]

    def _lookup(self) -> None:
        real_getaddrinfo, real_gethostbyname = socket.getaddrinfo, socket.gethostbyname
        names, own = self._names, self._bind

        def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def]
            text = host.decode() if isinstance(host, bytes) else host
            if not text and flags & socket.AI_PASSIVE and port and family in (0, socket.AF_INET):
                return real_getaddrinfo(own, port, socket.AF_INET, type, proto, flags)
            if isinstance(text, str) and text and family in (0, socket.AF_INET):
                found = names.addresses(text)
                if found:
                    return [e for a in found for e in real_getaddrinfo(a, port, socket.AF_INET, type, proto, flags)]
                text = names.alias(text)
                if _is_localhost(text):
                    # One answer: there is no ::1 in a pod here.
                    return real_getaddrinfo("127.0.0.1", port, socket.AF_INET, type, proto, flags)
            return real_getaddrinfo(text, port, family, type, proto, flags)

        def gethostbyname(host):  # type: ignore[no-untyped-def]
            found = names.addresses(host)
            return found[0] if found else real_gethostbyname(names.alias(host))

        socket.getaddrinfo = getaddrinfo
        socket.gethostbyname = gethostbyname

    def _connecting(self) -> None:
        real_connect, real_connect_ex = socket.socket.connect, socket.socket.connect_ex
        network = self

        def connect(self: socket.socket, address: object) -> None:
            target, captured = network.route(self, address)
            if captured:
                network.call(self, target)
                return
            try:
                real_connect(self, target)  # type: ignore[arg-type]
            except ConnectionRefusedError:
                other = network.other(address, target)
                if other is None:
                    raise
                real_connect(self, other)

        def connect_ex(self: socket.socket, address: object) -> int:
            target, captured = network.route(self, address)
            if captured:
                try:
                    network.call(self, target)
                except OSError as error:
                    return error.errno or errno.ECONNREFUSED
                return 0
            code = real_connect_ex(self, target)  # type: ignore[arg-type]
            other = network.other(address, target)
            if code == 111 and other is not None:
                return real_connect_ex(self, other)
            return code

        socket.socket.connect = connect  # type: ignore[method-assign,assignment]
        socket.socket.connect_ex = connect_ex  # type: ignore[method-assign,assignment]

    def call(self, sock: socket.socket, meant: Any) -> None:
        """Connect by way of the sidecar; that takes no time, so that it is done in one go.

        A socket that must not block is finished by a connect that blocks here: its caller finds it connected.
        """
        _connections().put_in_place_of(sock, self._capture, self._pod, meant)
        self._meant[sock] = meant

    def route(self, sock: socket.socket, address: object) -> tuple[object, bool]:
        """Where a connection to `address` goes, and whether by way of the sidecar."""
        if sock.family != socket.AF_INET or not isinstance(address, tuple) or len(address) != 2:
            return address, False
        host, port = address
        if not isinstance(host, str) or not isinstance(port, int):
            return address, False
        found = self._names.addresses(host) if not host[:1].isdigit() else []
        host = found[0] if found else host
        if _is_localhost(host):
            return (self._local, self.real(port)), False
        inside = host.startswith(self._block)
        # The world outside is captured as well, so that it shows in metrics and can be refused.
        elsewhere = inside or (host[:1].isdigit() and not host.startswith("127."))
        stream = sock.type & 0xF == socket.SOCK_STREAM
        captured = self._capture and stream and elsewhere and host not in (self._local, self._pod)
        if captured and (self._interception is None or self._interception.takes_outbound(host, port)):
            return (host, port), True
        return (host, self.real(port) if inside else port), False

    def bound(self, port: object) -> str:
        """Where a server listens that binds every address: what the sidecar leaves alone, at the pod IP."""
        left = self._interception is not None and isinstance(port, int) and self._interception.leaves(port)
        return self._pod if left else self._bind

    def other(self, address: object, target: object) -> tuple[str, int] | None:
        """Where else the pod's own localhost may listen: without a sidecar applications bind the pod IP."""
        if isinstance(address, tuple) and _is_localhost(address[0]) and isinstance(target, tuple):
            return self._pod, target[1]
        return None

    def real(self, port: int) -> int:
        """The real port behind `port` in this sandbox."""
        return port + self._shift if 0 < port < 1024 else port


install()
