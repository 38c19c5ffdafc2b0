# SPDX-License-Identifier: Apache-2.0
"""Istio's hosts: short names made whole, wildcards, who sees what, `namespace/name` in Gateways and Sidecars."""

from __future__ import annotations

from collections.abc import Collection

__all__ = [
    "DOMAIN",
    "fqdn",
    "gateway_key",
    "names_of_service",
    "overlap",
    "scoped",
    "specificity",
    "visible",
    "within",
]

DOMAIN = "svc.cluster.local"


def fqdn(host: str, namespace: str) -> str:
    """A host as Istio completes it: what has no dot is a Service of `namespace`; "*" and addresses stay."""
    if not host or "." in host or host == "*" or ":" in host:
        return host.lower()
    return f"{host}.{namespace}.{DOMAIN}".lower()


def names_of_service(name: str, namespace: str) -> list[str]:
    """What a Service is called from other namespaces, the whole name first; its own namespace also says `name`."""
    return [f"{name}.{namespace}.{DOMAIN}", f"{name}.{namespace}", f"{name}.{namespace}.svc"]


def within(host: str, pattern: str) -> bool:
    """Whether all that `host` means, which may be a wildcard, lies in `pattern`: "*", "*.example.com" or a name."""
    return host.endswith(pattern[1:]) if pattern.startswith("*") else host == pattern


def overlap(one: str, other: str) -> bool:
    """Whether two hosts, which may be wildcards, have a name in common."""
    return within(one, other) or within(other, one)


def specificity(host: str) -> tuple[bool, int]:
    """The larger, the more specific a host: a name before a wildcard, a long one before a short one."""
    return not host.startswith("*"), len(host)


def visible(export_to: Collection[str] | None, owner: str, namespace: str) -> bool:
    """Whether what lies in `owner` and has this `exportTo` is seen in `namespace`.

    Args:
        export_to: "*" for all, "." for its own, "~" for none, or names of namespaces; empty or None means all.
        owner: The namespace of the object.
        namespace: The one that looks.
    """
    return not export_to or "*" in export_to or namespace in export_to or ("." in export_to and namespace == owner)


def scoped(text: str, own: str) -> tuple[str, str]:
    """The namespace ("*" for any) and the name in a host of a Gateway or Sidecar: "bookinfo/*", "./a.b", "a.b".

    Args:
        text: The entry; without a namespace it means any.
        own: The namespace that "." stands for.
    """
    namespace, slash, name = text.partition("/")
    if not slash:
        return "*", text
    return (own if namespace == "." else namespace), name


def gateway_key(name: str, own: str) -> str:
    """The Gateway that a VirtualService in namespace `own` names, as "namespace/name"; "mesh" is none, and stays.

    Istio 1.1 still wrote name.namespace[.svc.cluster.local], and later ones go on reading it.
    """
    if name == "mesh":
        return name
    namespace, slash, rest = name.partition("/")
    if slash:
        return f"{own if namespace == '.' else namespace}/{rest}"
    short, *others = name.split(".")
    return f"{others[0] if others else own}/{short}"
