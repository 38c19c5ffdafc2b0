# SPDX-License-Identifier: Apache-2.0
"""What the sandbox's layers know of each other.

`controllers`, `node` and `mesh` reach objects only through `Objects` (implemented by `meshbox.api`); the API
server reaches running pods only through `PodRuntime` (implemented by `meshbox.node`). Nothing else crosses.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Literal, Protocol

from msgspec import Struct, field

from labkit.ground.errors import LabError

__all__ = [
    "AdmissionPlugin",
    "AdmissionRequest",
    "ApiError",
    "ByteStream",
    "Event",
    "ExecSession",
    "Obj",
    "Objects",
    "PodRuntime",
    "PodUsage",
    "Reading",
    "ResourceMetrics",
    "ReviewNeededError",
    "Used",
    "View",
    "Watch",
    "working_for",
]

Obj = dict[str, Any]
"""A Kubernetes object as JSON gives it."""

View = Mapping[str, Any]
"""One that is only read, whatever is known of its fields."""


_BARE = frozenset({"", "BadRequest", "Expired", "Gone", "NotAcceptable", "UnsupportedMediaType", "Unauthorized"})
"""Reasons whose `Status` has no details at all where nothing is to be told; that of others has empty ones."""


class ApiError(LabError):
    """A refusal in the API server's own form; becomes a `Status` object for clients.

    Args:
        code: HTTP status code.
        reason: Kubernetes' machine-readable reason, e.g. "NotFound", "AlreadyExists", "Conflict", "Invalid".
        message: The server's wording.
        details: `Status.details` (name, group, kind, causes, retryAfterSeconds).
    """

    def __init__(self, code: int, reason: str, message: str, details: Obj | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details or {}
        self.warnings: list[str] = []
        """What the client is told beside the refusal."""

    def status(self) -> Obj:
        """The `Status` object sent to a client."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            **({"reason": self.reason} if self.reason else {}),
            **({} if not self.details and self.reason in _BARE else {"details": self.details}),
            "code": self.code,
        }


class ReviewNeededError(Exception):
    """A write that a user's webhook is to be asked about first: nothing was written.

    Who is in no hurry calls `fetch`, which returns when the webhooks have answered, and tries the same write again.

    Args:
        fetch: Asks them; never raises for what they say or fail to say.
    """

    def __init__(self, fetch: Callable[[], Awaitable[None]]) -> None:
        super().__init__("webhooks are to be asked first")
        self.fetch = fetch


working_for: ContextVar[str] = ContextVar("working_for", default="")
"""The controller whose work this is, which can wait for webhooks; "" elsewhere: who cannot wait asks none."""


class Event(Struct, frozen=True):
    """One change seen by a watch. `object` is shared between all watchers: never change it."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Obj


class Watch(Protocol):
    """A stream of changes; iterate it, and close it when done (also an async context manager)."""

    def __aiter__(self) -> AsyncIterator[Event]: ...
    def close(self) -> None:
        """End the stream; iteration stops."""


class AdmissionRequest(Struct):
    """One write on its way into the store. A mutating plugin changes `object` in place."""

    operation: Literal["CREATE", "UPDATE", "DELETE"]
    resource: str
    namespace: str | None
    name: str
    object: Obj
    old_object: Obj | None = None
    subresource: str = ""
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list)


class AdmissionPlugin(Protocol):
    """Something that may change or refuse a write (raise `ApiError` to refuse). Sync and quick."""

    def mutate(self, request: AdmissionRequest) -> None:
        """Change `request.object` in place, before validation."""

    def validate(self, request: AdmissionRequest) -> None:
        """Raise `ApiError` to refuse; append to `request.warnings` to warn."""


class Objects(Protocol):
    """The objects of the cluster, with the API server's full semantics.

    `resource` is kubectl's name of a resource: the plural, a dot, the group; core resources have no group:
    "pods", "services", "deployments.apps", "virtualservices.networking.istio.io". Objects are given and returned in the
    resource's preferred version (custom resources: the storage version). What is returned is the caller's own copy.
    All methods run on the event loop's thread, do not block and never yield to the loop, so that a
    read followed by a write is atomic.

    Raises:
        ApiError: as the API server would answer: 404 NotFound, 409 AlreadyExists / Conflict, 422 Invalid, …
    """

    def get(self, resource: str, name: str, namespace: str | None = None) -> Obj:
        """The object; 404 where there is none."""

    def find(self, resource: str, name: str, namespace: str | None = None) -> Obj | None:
        """As `get`, but None where there is none (also where the resource itself is not served)."""

    def see(self, resource: str, name: str, namespace: str | None = None) -> Obj | None:
        """As `find`, but the object is the one that is stored, for reading only."""

    def list(self, resource: str, namespace: str | None = None, *, labels: str = "", fields: str = "") -> list[Obj]:
        """All objects of `resource` (an empty list where the resource is not served); selectors in kubectl's syntax."""

    def view(
        self, resource: str, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> builtins.list[Obj]:
        """As `list`, but the objects are those that are stored, for reading only: a copy takes longer than the rest."""

    def create(self, resource: str, obj: Obj, namespace: str | None = None, *, manager: str = "") -> Obj:
        """Create through admission, defaulting and validation; what was stored."""

    def update(self, resource: str, obj: Obj, *, subresource: str = "", manager: str = "") -> Obj:
        """Replace; with `metadata.resourceVersion` set, only if unchanged since (else 409 Conflict).
        `subresource="status"` changes nothing but the status."""

    def patch(
        self,
        resource: str,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        kind: Literal["merge", "strategic", "json"] = "merge",
        subresource: str = "",
        manager: str = "",
    ) -> Obj:
        """Change what `patch` says, through the same path as `update`."""

    def apply(
        self,
        resource: str,
        name: str,
        wanted: Obj,
        namespace: str | None = None,
        *,
        manager: str = "",
        strict: bool = False,
    ) -> Obj:
        """Server-side apply, with force: `manager` owns what `wanted` says, and nothing that it said before; creates
        the object where there is none. With `strict` it is checked as a client's is, since users had a say in it."""

    def merged(self, resource: str, obj: Obj, patch: Obj) -> Obj:
        """`obj` (not changed) after a strategic merge patch; nothing is stored."""

    def delete(
        self,
        resource: str,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
        grace_period: int | None = None,
        uid: str = "",
    ) -> Obj:
        """Delete, or mark for deletion where finalizers or a pod's grace period hold it; the last state.

        Args:
            resource: As everywhere here.
            name: The object's name.
            namespace: Its namespace; None for cluster-scoped ones.
            propagation: What becomes of its dependents.
            grace_period: Seconds a pod may take to end; None for its own `terminationGracePeriodSeconds`.
            uid: Only if the object still has this uid (else 409).
        """

    def watch(self, resource: str, namespace: str | None = None) -> Watch:
        """ADDED for everything there is now, then every change. A resource that is not served (yet) is watched all the
        same: its objects appear once its CRD does, and are DELETED with it."""

    def resources(self) -> builtins.list[str]:
        """Every resource served now, custom ones included, in the form used here."""

    def namespaced(self, resource: str) -> bool:
        """Whether objects of `resource` live in namespaces."""

    def event(
        self,
        involved: View,
        type: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        component: str,
        *,
        field_path: str = "",
    ) -> None:
        """Record a Kubernetes Event about `involved`, or about its part `field_path` ("spec.containers{web}").

        Repeated ones are counted, as the event recorder does. Never raises: an event about a vanished object or in a
        vanished namespace is dropped.
        """

    def add_admission(self, plugin: AdmissionPlugin) -> None:
        """Ask `plugin` about every write from now on."""


class ByteStream(Protocol):
    """A two-way byte stream (a port-forward connection)."""

    async def read(self, n: int = 65536) -> bytes:
        """Next bytes; b"" at the end."""

    async def write(self, data: bytes) -> None:
        """Send; waits while the other side is slow."""

    async def write_eof(self) -> None:
        """No more will be written; reading goes on."""

    def close(self) -> None:
        """End both directions at once."""


class ExecSession(Protocol):
    """A command running in a container."""

    async def read_stdout(self) -> bytes:
        """Next bytes of stdout (with a tty: of everything); b"" at the end."""

    async def read_stderr(self) -> bytes:
        """Next bytes of stderr; b"" at the end."""

    async def write_stdin(self, data: bytes) -> None:
        """Send to stdin; waits while the command is slow."""

    async def close_stdin(self) -> None:
        """End of stdin."""

    def resize(self, width: int, height: int) -> None:
        """Tell a tty its size in characters."""

    async def wait(self) -> int:
        """The exit code (128 + n where signal n ended it)."""

    def kill(self) -> None:
        """End the command and what it started."""


class PodRuntime(Protocol):
    """The node, as the API server reaches it. Raises `ApiError` (400, 404) with the kubelet's wording."""

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        previous: bool = False,
        tail_lines: int | None = None,
        since_seconds: int | None = None,
        since_time: str = "",
        timestamps: bool = False,
        limit_bytes: int | None = None,
    ) -> AsyncIterator[bytes]:
        """The container's log, as the kubelet's /containerLogs gives it."""

    async def exec(
        self, namespace: str, pod: str, container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> ExecSession:
        """Start `command` in a running container."""

    async def attach(self, namespace: str, pod: str, container: str, *, skip: int | None) -> ExecSession:
        """The streams of a running container that has a stdin or a terminal; `kill` only leaves them.

        Args:
            namespace: The pod's namespace.
            pod: Its name.
            container: The container.
            skip: How many bytes of its output the client has seen; None: it sees what comes from now on.
        """

    async def connect(self, namespace: str, pod: str, port: int) -> ByteStream:
        """Connect to `port` as the pod's own localhost shows it."""

    async def metrics(self, path: str) -> str:
        """The kubelet's page at "/metrics" or "/metrics/cadvisor", in Prometheus' text format."""

    async def usage(self) -> Used:
        """What all that runs has used until now."""


Used = Mapping[tuple[str, str, str, str], tuple[float, int]]
"""By namespace, pod, container and the container's id: seconds of CPU since its start, bytes of its working set.

The sandbox's own process, which plays what is on a node besides, has the namespace, pod and container "".
"""


class Reading(Struct, frozen=True):
    """What was used at one moment.

    Args:
        at: On a clock that never goes back, in seconds.
        when: Seconds since the epoch.
        used: Until then.
    """

    at: float
    when: float
    used: Used


class PodUsage(Struct, frozen=True):
    """What a pod uses.

    Args:
        when: Seconds since the epoch.
        window: Over how many seconds before.
        containers: By name: CPU in cores, memory in bytes.
    """

    when: float
    window: float
    containers: dict[str, tuple[float, int]]


class ResourceMetrics(Protocol):
    """The Metrics API, as controllers ask it."""

    async def pods(self) -> dict[tuple[str, str], PodUsage]:
        """What each pod uses, by namespace and name; ApiError (404, 503) where nobody serves it."""


Clock = Callable[[], float]
