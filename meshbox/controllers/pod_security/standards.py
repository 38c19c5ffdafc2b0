# SPDX-License-Identifier: Apache-2.0
"""Pod Security Standards: what a pod may not ask for at the levels baseline and restricted.

Source: the checks of k8s.io/pod-security-admission 0.35, their order, versions and words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from meshbox.contracts import Obj

__all__ = ["LATEST", "violations"]

LATEST = 35
"""The minor version of Kubernetes whose standards are the latest."""

_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
_SYSCTLS = {
    "kernel.shm_rmid_forced": 0,
    "net.ipv4.ip_local_port_range": 0,
    "net.ipv4.tcp_syncookies": 0,
    "net.ipv4.ping_group_range": 0,
    "net.ipv4.ip_unprivileged_port_start": 0,
    "net.ipv4.ip_local_reserved_ports": 27,
    "net.ipv4.tcp_keepalive_time": 29,
    "net.ipv4.tcp_fin_timeout": 29,
    "net.ipv4.tcp_keepalive_intvl": 29,
    "net.ipv4.tcp_keepalive_probes": 29,
    "net.ipv4.tcp_rmem": 32,
    "net.ipv4.tcp_wmem": 32,
}
"""Those that are safe, and since which version they count as that."""

_SELINUX = {"": 0, "container_t": 0, "container_init_t": 0, "container_kvm_t": 0, "container_engine_t": 31}
_VOLUMES = frozenset(
    {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected",
        "secret",
    }
)  # fmt: skip
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


class Asked(Struct):
    """What one pod asks for.

    Args:
        spec: Of the pod.
        annotations: Of the pod.
        version: The minor version of the standards.
    """

    spec: Obj
    annotations: dict[str, str]
    version: int

    @property
    def containers(self) -> Iterator[tuple[str, Obj]]:
        """The name of each container, and the container, in the order in which they start."""
        for kind in ("initContainers", "containers", "ephemeralContainers"):
            for one in self.spec.get(kind) or ():
                yield str(one.get("name")), one

    def where(self, wrong: Callable[[Obj], Any]) -> list[str]:
        """The containers of whose security context that is so."""
        return [name for name, one in self.containers if wrong(one.get("securityContext") or {})]

    def setters(self, wrong: Callable[[Obj], Any]) -> str:
        """Who has such a security context: the pod, containers; "" for nobody."""
        found = ["pod"] if wrong(self.spec.get("securityContext") or {}) else []
        if names := self.where(wrong):
            found.append(_containers(names))
        return " and ".join(found)

    @property
    def own_users(self) -> bool:
        """Whether the pod's users are nobody outside of it."""
        return self.version >= 35 and self.spec.get("hostUsers") is False

    @property
    def windows(self) -> bool:
        return self.version >= 25 and (self.spec.get("os") or {}).get("name") == "windows"


_Found = tuple[str, str] | None
"""Why a pod is refused, in short and in detail."""


def _quoted(values: Iterable[str]) -> str:
    return ", ".join(f'"{one}"' for one in values)


def _plural(word: str, many: Sequence[Any] | set[Any]) -> str:
    return word if len(many) == 1 else f"{word}s"


def _containers(names: Sequence[str]) -> str:
    return f"{_plural('container', names)} {_quoted(names)}"


def _profiles(asked: Asked, field: str) -> tuple[str, list[str]]:
    """Who sets a profile that is neither the runtime's own nor a local one, and which."""
    bad: set[str] = set()

    def wrong(context: Obj) -> bool:
        found = {(context.get(field) or {}).get("type", "RuntimeDefault")} - {"RuntimeDefault", "Localhost"}
        bad.update(found)
        return bool(found)

    return asked.setters(wrong), sorted(bad)


def _apparmor(asked: Asked) -> _Found:
    who, values = _profiles(asked, "appArmorProfile")
    setters = [who] if who else []
    notes = [(key, value) for key, value in sorted(asked.annotations.items()) if key.startswith(_APPARMOR)]
    notes = [(key, value) for key, value in notes if value not in ("", "runtime/default")]
    if forbidden := [f'{key}="{value}"' for key, value in notes if not value.startswith("localhost/")]:
        values += forbidden
        setters.append(_plural("annotation", forbidden))
    if not setters:
        return None
    said = f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(values)}"
    return _plural("forbidden AppArmor profile", values), said


def _capabilities(asked: Asked) -> _Found:
    def added(context: Obj) -> set[str]:
        return set((context.get("capabilities") or {}).get("add") or ()) - _CAPABILITIES

    names = asked.where(added)
    every = set[str]().union(*(added(one.get("securityContext") or {}) for _, one in asked.containers))
    said = f"{_containers(names)} must not include {_quoted(sorted(every))} in securityContext.capabilities.add"
    return ("non-default capabilities", said) if names else None


def _host_namespaces(asked: Asked) -> _Found:
    found = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if asked.spec.get(field)]
    return ("host namespaces", ", ".join(found)) if found else None


def _host_paths(asked: Asked) -> _Found:
    names = [str(one.get("name")) for one in asked.spec.get("volumes") or () if one.get("hostPath") is not None]
    return ("hostPath volumes", f"{_plural('volume', names)} {_quoted(names)}") if names else None


def _host_ports(asked: Asked) -> _Found:
    used = {
        name: {str(port["hostPort"]) for port in one.get("ports") or () if port.get("hostPort")}
        for name, one in asked.containers
    }
    names, ports = [name for name, found in used.items() if found], set[str]().union(*used.values())
    if not names:
        return None
    verb = "uses" if len(names) == 1 else "use"
    return "hostPort", f"{_containers(names)} {verb} {_plural('hostPort', ports)} {', '.join(sorted(ports))}"


def _hosts(container: Obj) -> set[str]:
    probes = [container.get(f"{kind}Probe") or {} for kind in ("liveness", "readiness", "startup")]
    hooks = [(container.get("lifecycle") or {}).get(kind) or {} for kind in ("postStart", "preStop")]
    asked = (one.get(way) or {} for one in (*probes, *hooks) for way in ("httpGet", "tcpSocket"))
    return {one["host"] for one in asked if one.get("host")}


def _probes(asked: Asked) -> _Found:
    used = {name: _hosts(one) for name, one in asked.containers}
    names, hosts = sorted(name for name, found in used.items() if found), set[str]().union(*used.values())
    if not names or asked.version < 34:
        return None
    verb = "uses" if len(names) == 1 else "use"
    said = f"{_containers(names)} {verb} {_plural('probe or lifecycle host', hosts)} {_quoted(sorted(hosts))}"
    return "probe or lifecycle host", said


def _privileged(asked: Asked) -> _Found:
    names = asked.where(lambda context: context.get("privileged"))
    return ("privileged", f"{_containers(names)} must not set securityContext.privileged=true") if names else None


def _every_proc_mount(asked: Asked) -> _Found:
    def mounted(context: Obj) -> Any:
        return context.get("procMount") not in (None, "Default")

    names = asked.where(mounted)
    kinds = {
        one["securityContext"]["procMount"] for _, one in asked.containers if mounted(one.get("securityContext") or {})
    }
    said = f"{_containers(names)} must not set securityContext.procMount to {_quoted(sorted(kinds))}"
    return ("procMount", said) if names else None


def _proc_mount(asked: Asked) -> _Found:
    return None if asked.own_users else _every_proc_mount(asked)


def _selinux(asked: Asked) -> _Found:
    allowed = {kind for kind, since in _SELINUX.items() if asked.version >= since}
    kinds, given = set[str](), set[str]()

    def wrong(context: Obj) -> bool:
        options = context.get("seLinuxOptions") or {}
        bad = {options.get("type") or ""} - allowed
        fields = {field for field in ("user", "role") if options.get(field)}
        kinds.update(bad)
        given.update(fields)
        return bool(bad or fields)

    if not (setters := asked.setters(wrong)):
        return None
    said = [f"{_plural('type', kinds)} {_quoted(sorted(kinds))}"] if kinds else []
    said += [f"{field} may not be set" for field in ("user", "role") if field in given]
    return "seLinuxOptions", f"{setters} set forbidden securityContext.seLinuxOptions: {'; '.join(said)}"


def _seccomp(asked: Asked) -> _Found:
    setters, values = _profiles(asked, "seccompProfile")
    said = f"{setters} must not set securityContext.seccompProfile.type to {_quoted(values)}"
    return ("seccompProfile", said) if setters else None


def _sysctls(asked: Asked) -> _Found:
    given = [str(one.get("name")) for one in (asked.spec.get("securityContext") or {}).get("sysctls") or ()]
    found = [name for name in given if _SYSCTLS.get(name, LATEST + 1) > asked.version]
    return ("forbidden sysctls", ", ".join(found)) if found else None


def _host_process(asked: Asked) -> _Found:
    setters = asked.setters(lambda context: (context.get("windowsOptions") or {}).get("hostProcess"))
    said = f"{setters} must not set securityContext.windowsOptions.hostProcess=true"
    return ("hostProcess", said) if setters else None


def _escalation(asked: Asked) -> _Found:
    names = [] if asked.windows else asked.where(lambda context: context.get("allowPrivilegeEscalation") is not False)
    said = f"{_containers(names)} must set securityContext.allowPrivilegeEscalation=false"
    return ("allowPrivilegeEscalation != false", said) if names else None


def _few_capabilities(asked: Asked) -> _Found:
    def added(context: Obj) -> set[str]:
        return set((context.get("capabilities") or {}).get("add") or ()) - {"NET_BIND_SERVICE"}

    if asked.windows:
        return None
    said = []
    if keeping := asked.where(lambda context: "ALL" not in ((context.get("capabilities") or {}).get("drop") or ())):
        said.append(f'{_containers(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding := asked.where(added):
        every = set[str]().union(*(added(one.get("securityContext") or {}) for _, one in asked.containers))
        what = f"must not include {_quoted(sorted(every))} in securityContext.capabilities.add"
        said.append(f"{_containers(adding)} {what}")
    return ("unrestricted capabilities", "; ".join(said)) if said else None


def _volumes(asked: Asked) -> _Found:
    found = {}
    for one in asked.spec.get("volumes") or ():
        kinds = {field for field, value in one.items() if field != "name" and value is not None}
        if not kinds & _VOLUMES:
            found[str(one.get("name"))] = min(kinds, default="unknown")
    names, kinds = list(found), set(found.values())
    if not names:
        return None
    verb = "uses" if len(names) == 1 else "use"
    said = f"{_plural('volume', names)} {_quoted(names)} {verb} {_plural('restricted volume type', kinds)}"
    return "restricted volume types", f"{said} {_quoted(sorted(kinds))}"


def _no_root(asked: Asked) -> _Found:
    if asked.own_users:
        return None
    if setters := asked.setters(lambda context: context.get("runAsNonRoot") is False):
        return "runAsNonRoot != true", f"{setters} must not set securityContext.runAsNonRoot=false"
    whole = (asked.spec.get("securityContext") or {}).get("runAsNonRoot")
    silent = [] if whole else asked.where(lambda context: context.get("runAsNonRoot") is None)
    said = f"pod or {_containers(silent)} must set securityContext.runAsNonRoot=true"
    return ("runAsNonRoot != true", said) if silent else None


def _user(asked: Asked) -> _Found:
    setters = "" if asked.own_users else asked.setters(lambda context: context.get("runAsUser") == 0)
    return ("runAsUser=0", f"{setters} must not set runAsUser=0") if setters else None


def _some_seccomp(asked: Asked) -> _Found:
    if asked.windows:
        return None
    if found := _seccomp(asked):
        return found
    whole = (asked.spec.get("securityContext") or {}).get("seccompProfile")
    silent = [] if whole else asked.where(lambda context: not context.get("seccompProfile"))
    said = (
        f'pod or {_containers(silent)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    )
    return ("seccompProfile", said) if silent else None


_BASELINE = (
    _apparmor,
    _capabilities,
    _host_namespaces,
    _host_paths,
    _host_ports,
    _probes,
    _privileged,
    _proc_mount,
    _selinux,
    _seccomp,
    _sysctls,
    _host_process,
)
_RESTRICTED: tuple[tuple[Callable[[Asked], _Found], int, Callable[[Asked], _Found] | None], ...] = (
    (_escalation, 8, None),
    (_few_capabilities, 22, _capabilities),
    (_every_proc_mount, 35, _proc_mount),
    (_volumes, 0, _host_paths),
    (_no_root, 0, None),
    (_user, 23, None),
    (_some_seccomp, 19, _seccomp),
)
"""Each check, since which version there is one, and which one of the baseline's is not made then."""


def violations(pod: Obj, level: str, version: int = LATEST) -> list[tuple[str, str]]:
    """What a pod asks for beyond a standard.

    Args:
        pod: The pod, or its template.
        level: "privileged", "baseline" or "restricted".
        version: The minor version of Kubernetes whose standards count; a later one is the latest.

    Returns:
        The reason and the detail of each check that fails, in the order in which a server tells them.
    """
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    asked = Asked(pod.get("spec") or {}, annotations, min(version, LATEST))
    stricter = [one for one in _RESTRICTED if level == "restricted" and asked.version >= one[1]]
    skipped = {replaced for _, _, replaced in stricter}
    plain = () if level == "privileged" else tuple(check for check in _BASELINE if check not in skipped)
    return [found for check in (*plain, *(check for check, _, _ in stricter)) if (found := check(asked))]
