# SPDX-License-Identifier: Apache-2.0
"""Who gets a sidecar, who lacks one, and who has one of another version; pods that stand in their own sidecar's way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.cluster import Obj
from labkit.ground.labels import matches
from labkit.istio.analyze.messages import listed
from labkit.istio.analyze.world import (
    ROOT,
    SYSTEM,
    Said,
    World,
    annotations_of,
    full,
    has_sidecar,
    labels,
    name,
    namespace,
    of_istio,
)

__all__ = ["chooses", "injection", "of_injection"]

_LABEL, _REVISION, _MODE = "istio-injection", "istio.io/rev", "istio.io/dataplane-mode"
_SIDECAR = "istio-proxy"
_RESERVED = 1337


def injection(world: World) -> Iterator[Said]:
    """What is wrong with it."""
    injected: dict[str, str] = {}
    for item in world.all("Namespace"):
        if name(item) != ROOT and name(item) not in SYSTEM:
            yield from _namespace(item, injected, world)
    mismatched: dict[str, list[str]] = {}
    for pod in world.all("Pod"):
        if (revision := injected.get(namespace(pod))) is not None:
            if not has_sidecar(pod["spec"]) and _wants_sidecar(pod):
                yield Said(pod, "IST0103", (full(pod),))
            if _other_image(pod, world.injector(revision)):
                mismatched.setdefault(namespace(pod), []).append(name(pod))
    for where, pods in mismatched.items():
        yield Said(world.namespaces[where], "IST0158", (listed(pods),))
    yield from _automatic(world)
    for owner, spec in _specs(world):
        users = [spec, *(one for one in spec.get("containers") or [] if one.get("name") != _SIDECAR)]
        if not of_istio(owner) and any(
            (one.get("securityContext") or {}).get("runAsUser") == _RESERVED for one in users
        ):
            yield Said(owner, "IST0144")


def _namespace(item: Obj, injected: dict[str, str], world: World) -> Iterator[Said]:
    about = labels(item)
    kinds = [key for key in (_LABEL, _REVISION, _MODE) if key in about]
    if len(kinds) > 1 and about.get(_LABEL, "enabled") == "enabled":
        yield Said(item, "IST0123", (listed(f"{key}={about[key]}" for key in kinds),))
    if about.get(_MODE) == "ambient":
        return
    if not about.get(_LABEL) and _REVISION not in about:
        settings = world.injector("")
        webhook = settings.get("sidecarInjectorWebhook") if settings else None
        if isinstance(webhook, dict) and webhook.get("enableNamespacesByDefault") is True:
            yield Said(item, "IST0148")
        else:
            yield Said(item, "IST0102", (name(item),))
        return
    if _REVISION in about or about[_LABEL] == "enabled":
        injected[name(item)] = about.get(_REVISION, "")


def _wants_sidecar(pod: Obj) -> bool:
    told = {**annotations_of(pod), **labels(pod)}
    over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    inject = told.get("sidecar.istio.io/inject", "").lower()
    return inject != "false" and not pod["spec"].get("hostNetwork") and not over


def _other_image(pod: Obj, settings: Obj | None) -> bool:
    """Whether a pod's sidecar is another one than a new pod would get."""
    given = settings.get("global") if settings else None
    proxy = given.get("proxy") if isinstance(given, dict) else None
    image = proxy.get("image") if isinstance(proxy, dict) else None
    if not isinstance(image, str) or not image or annotations_of(pod).get("sidecar.istio.io/proxyImage"):
        return False
    if "/" not in image:
        image = f"{given.get('hub', '')}/{image}:{given.get('tag', '')}" if given else image
    containers = [*(pod["spec"].get("containers") or []), *(pod["spec"].get("initContainers") or [])]
    own = [one["image"] for one in containers if one.get("name") == _SIDECAR and one.get("image")]
    # What follows the version is the kind of the same image.
    return any(one != image and one != f"{image}-distroless" for one in own)


def _automatic(world: World) -> Iterator[Said]:
    """Pods that wait for an image which only the injector names."""
    hooks = [hook for hook in of_injection(world) if (hook.get("name") or "").endswith("istio.io")]
    for owner, spec in _specs(world):
        if not any(one.get("name") == _SIDECAR and one.get("image") == "auto" for one in spec.get("containers") or []):
            continue
        if owner["kind"] == "Pod":
            yield Said(owner, "IST0147", ("Pod", name(owner)))
            continue
        around = world.namespaces.get(namespace(owner))
        about = (owner["spec"].get("template") or {}).get("metadata") or {}
        where, own = labels(around) if around else {}, about.get("labels") or {}
        if not any(
            chooses(hook.get("namespaceSelector"), where) and chooses(hook.get("objectSelector"), own) for hook in hooks
        ):
            yield Said(owner, "IST0146", ("Deployment", name(owner)))


def of_injection(world: World) -> Iterator[Obj]:
    """The webhooks that change what is made."""
    for item in world.all("MutatingWebhookConfiguration"):
        yield from item.get("webhooks") or []


def chooses(selector: Mapping[str, Any] | None, own: dict[str, str]) -> bool:
    """Whether a webhook's selector, None for one that chooses all, chooses these labels; one that is wrong does not."""
    wanted = (selector or {}).get("matchExpressions") or []
    known = all(one.get("operator") in ("In", "NotIn", "Exists", "DoesNotExist") for one in wanted)
    return known and matches(selector, own)


def _specs(world: World) -> Iterator[tuple[Obj, Obj]]:
    """Pods and Deployments, each with the spec of its pods."""
    for pod in world.all("Pod"):
        yield pod, pod["spec"]
    for item in world.all("Deployment"):
        yield item, (item["spec"].get("template") or {}).get("spec") or {}
