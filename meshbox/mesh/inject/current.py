# SPDX-License-Identifier: Apache-2.0
"""How today's injector writes into a pod: templates are laid over it, and over these the user's own containers."""

from __future__ import annotations

import json
import re

from labkit.ground import reading
from labkit.ground.numbers import whole
from meshbox.contracts import Obj
from meshbox.mesh.inject.annotations import TEMPLATES, enabled
from meshbox.mesh.inject.filling import Filling, plain_env
from meshbox.mesh.inject.merging import merge_container, merge_pod
from meshbox.mesh.inject.probes import rewrite_probes, rewrites
from meshbox.mesh.inject.sidecar import TEMPLATES as OWN
from meshbox.mesh.inject.sidecar import holds, native
from meshbox.mesh.inject.template import Template

__all__ = ["apply"]

_PROXY, _OVERRIDES = "istio-proxy", "proxy.istio.io/overrides"
_ELSEWHERE = frozenset({"grpc-simple", "grpc-agent", "waypoint", "kube-gateway", "agentgateway"})
"""Templates of the release that are not for pods with an Envoy beside them."""
_LISTS = ("initContainers", "containers")


def apply(pod: Obj, namespace: str, template: Template, config: Obj) -> None:
    """Inject `pod`, in place.

    Args:
        pod: The pod that is being created.
        namespace: Its namespace.
        template: The installation.
        config: The settings of its proxy.

    Raises:
        ValueError: its annotations, or the installation's values, are nothing that a template could be filled with.
    """
    filling = Filling(pod, namespace, template, config)
    over: Obj = {}
    for name in _chosen(filling):
        over = merge_pod(over, _filled(name, filling))
    status = _status(over, filling)
    spec = pod["spec"]
    # What somebody wrote of a container that a template has as well is laid over that, wherever it stood.
    overrides = _taken_out(spec, over, filling)
    merged = merge_pod({"metadata": pod["metadata"], "spec": spec}, over)
    found = merged["spec"]
    for key, containers in overrides.items():
        for container in containers:
            at = next(n for n, one in enumerate(found[key]) if one["name"] == container["name"])
            found[key][at] = merge_container(found[key][at], container)
    annotations = merged["metadata"].setdefault("annotations", {})
    if overrides and _OVERRIDES not in annotations:
        annotations[_OVERRIDES] = json.dumps(overrides, separators=(",", ":"))
    _finish(found, annotations, filling)
    _let_through(found, overrides)
    annotations["sidecar.istio.io/status"] = status
    annotations |= template.annotations
    merged["metadata"].setdefault("labels", {})
    if network := template.value("network"):
        merged["metadata"]["labels"]["topology.istio.io/network"] = network
    pod["metadata"], pod["spec"] = merged["metadata"], _ordered(found, filling)


def _chosen(filling: Filling) -> list[str]:
    asked = filling.annotations.get(TEMPLATES)
    names = filling.template.defaults if asked is None else [name.strip() for name in asked.split(",")]
    return [one for name in names for one in filling.template.aliases.get(name, [name])]


def _filled(name: str, filling: Filling) -> Obj:
    texts = filling.template.texts
    if name in OWN:
        return OWN[name](filling)
    if name not in texts and name not in _ELSEWHERE:
        known = ", ".join(sorted({*texts, *OWN, *_ELSEWHERE}))
        raise ValueError(f'requested template "{name}" not found; have {known}')
    if name in _ELSEWHERE:
        raise ValueError(f'template "{name}" is not played by this sandbox, which has {", ".join(sorted(OWN))}')
    text = str(texts[name])
    if found := re.search(r"\{\{.*?\}\}", text, re.DOTALL):
        said = f'template "{name}" cannot be filled in by this sandbox, as it has {found[0][:80]}'
        raise ValueError(f"{said}: of templates of one's own those without Go's actions are played")
    try:
        read = reading.yaml_value(text)
    except reading.ReadingError as error:
        raise ValueError(f"failed applying injection overlay: template {name!r}: {error}") from error
    if not isinstance(read, dict):
        raise ValueError(f"failed applying injection overlay: template {name!r} is no pod")
    return read


def _taken_out(spec: Obj, over: Obj, filling: Filling) -> dict[str, list[Obj]]:
    """The containers of the pod that templates have too, taken out of it, by the list where the template has them."""
    before = filling.annotations.get(_OVERRIDES)
    known = reading.json_value(before) if before else {}
    found: dict[str, list[Obj]] = {}
    for key in _LISTS:
        for name in [container["name"] for container in (over.get("spec") or {}).get(key) or []]:
            places = [known.get(key), *(spec.get(place) for place in ((key,) if key == "containers" else _LISTS))]
            mine = next((one for place in places for one in place or [] if one["name"] == name), None)
            if mine is None:
                continue
            for place in _LISTS:
                if spec.get(place):
                    spec[place] = [one for one in spec[place] if one["name"] != name]
            found.setdefault(key, []).append({k: v for k, v in mine.items() if (k, v) != ("image", "auto")})
    return found


def _finish(spec: Obj, annotations: dict[str, str], filling: Filling) -> None:
    """What no template says: whom Prometheus asks, and whom the kubelet."""
    every = [container for key in _LISTS for container in spec.get(key) or []]
    proxy = next((container for container in every if container["name"] == _PROXY), None)
    mesh, webhook = filling.template.mesh, filling.template.values.get("sidecarInjectorWebhook") or {}
    port = whole(str((mesh.get("defaultConfig") or {}).get("statusPort") or 15020)) or 15020
    _scraped_by_the_proxy(proxy, annotations, mesh, str(port))
    if proxy is not None and rewrites(annotations, webhook.get("rewriteAppHTTPProbe", True)):
        port = whole(annotations.get("status.sidecar.istio.io/port", "")) or port
        others = [container for container in every if container is not proxy]
        if told := rewrite_probes(others, annotations, port):
            proxy["env"] = [*(proxy.get("env") or []), plain_env("ISTIO_KUBE_APP_PROBERS", told)]


def _let_through(spec: Obj, overrides: dict[str, list[Obj]]) -> None:
    """Have `istio-init` leave alone what the proxy sends, where somebody wrote as whom it runs."""
    mine = next((one for key in _LISTS for one in overrides.get(key) or () if one["name"] == _PROXY), {})
    user = (mine.get("securityContext") or {}).get("runAsUser")
    for container in spec.get("initContainers") or [] if user else ():
        arguments = container.get("args") or []
        if container["name"] == "istio-init" and "-u" in arguments[:-1]:
            arguments[arguments.index("-u") + 1] = str(user)


def _scraped_by_the_proxy(proxy: Obj | None, annotations: dict[str, str], mesh: Obj, port: str) -> None:
    # Prometheus writes a label's name for an annotation's, so that several annotations are one to it.
    keys = ("scrape", "path", "port")
    own = {
        key: (name, value)
        for name, value in annotations.items()
        for key in keys
        if re.sub(r"[^a-zA-Z0-9_]", "_", name) == f"prometheus_io_{key}"
    }
    merges = enabled(
        annotations.get("prometheus.istio.io/merge-metrics"), bool(mesh.get("enablePrometheusMerge", True))
    )
    if not merges or not enabled(own.get("scrape", ("", ""))[1], True) or own.get("port", ("", ""))[1] == port:
        return
    if own and proxy is not None:
        told = {key: own[key][1] if key in own else "" for key in keys}
        text = json.dumps(told, separators=(",", ":"))
        proxy["env"] = [*(proxy.get("env") or []), plain_env("ISTIO_PROMETHEUS_ANNOTATIONS", text)]
    for name, _ in own.values():
        annotations.pop(name, None)
    annotations |= {
        "prometheus.io/port": port,
        "prometheus.io/path": "/stats/prometheus",
        "prometheus.io/scrape": "true",
    }


def _status(over: Obj, filling: Filling) -> str:
    spec = over.get("spec") or {}
    names = {key: [one["name"] for one in spec.get(key) or []] or None for key in (*_LISTS, "volumes")}
    names["imagePullSecrets"] = [one["name"] for one in spec.get("imagePullSecrets") or []] or None
    return json.dumps({**names, "revision": filling.revision}, separators=(",", ":"))


def _ordered(spec: Obj, filling: Filling) -> Obj:
    """The containers in the order in which they are to start."""

    def moved(key: str, name: str, *, first: bool) -> None:
        containers = spec.get(key) or []
        mine = [one for one in containers if one["name"] == name]
        rest = [one for one in containers if one["name"] != name]
        if mine:
            spec[key] = [*mine, *rest] if first else [*rest, *mine]

    # Last, so that `kubectl exec` means the application's container.
    moved("containers", _PROXY, first=holds(filling))
    if native(filling):
        # First, so that the application's own init containers already have a network.
        moved("initContainers", _PROXY, first=True)
        before = filling.annotations.get("sidecar.istio.io/init-containers-before-proxy", "")
        for name in reversed(before.split(",")):
            moved("initContainers", name, first=True)
        moved("initContainers", "istio-init", first=True)
    else:
        # Last, so that the application's own init containers reach the network without the proxy.
        moved("initContainers", "istio-init", first=False)
    return spec
