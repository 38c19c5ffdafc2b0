# SPDX-License-Identifier: Apache-2.0
"""Files of one volume that lie upon each other: the last one is there, or none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["overlapping"]

Obj = Mapping[str, Any]
_Path = tuple[str, str]
"""A path, and where its file comes from."""


def overlapping(volumes: Iterable[Obj]) -> list[str]:
    """Of paths in volumes of ConfigMaps, Secrets, the downward API, and of several of them."""
    found = list[str]()
    for volume in volumes:
        name = json.dumps(volume["name"])
        for kind, told in (("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")):
            source = volume.get(kind)
            if source and source.get("items"):
                of = {"configMap": source.get("name"), "secret": source.get("secretName")}.get(kind)
                what = f"{told} {json.dumps(of or '')}" if kind != "downwardAPI" else told
                paths = [(one.get("path") or "", "") for one in source["items"]]
                found += [f"volume {name} ({what}): overlapping paths: {pair}" for pair in _pairs(paths, [])]
        if projected := volume.get("projected"):
            before = list[_Path]()
            for one in projected.get("sources") or ():
                if not one:
                    found.append(f"volume {name} (Projected) has no sources provided")
                pairs = _pairs(_projected(one), before)
                found += [f"volume {name} (Projected): overlapping paths: {pair}" for pair in pairs]
    return found


def _projected(source: Obj) -> list[_Path]:
    for kind, told in (("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")):
        one = source.get(kind)
        if one is not None:
            what = told if kind == "downwardAPI" else f"{told} {json.dumps(one.get('name') or '')}"
            return [(item.get("path") or "", what) for item in one.get("items") or ()]
    if (one := source.get("serviceAccountToken")) is not None:
        return [(one.get("path") or "", "ServiceAccountToken")]
    if (one := source.get("clusterTrustBundle")) is not None:
        named = one.get("name") if one.get("name") is not None else one.get("signerName")
        return [(one.get("path") or "", f"ClusterTrustBundle {json.dumps(named or '')}")]
    one = source.get("podCertificate") or {}
    kinds = {"certificateChainPath": "chain", "keyPath": "key", "credentialBundlePath": "credential bundle"}
    return [(one[field], f"PodCertificate {what}") for field, what in kinds.items() if one.get(field)]


def _pairs(paths: Iterable[_Path], before: list[_Path]) -> list[str]:
    """What lies upon each other or upon one of `before`, to which the paths are added."""
    found = list[str]()
    for path, source in paths:
        path = path.rstrip("/")
        for other in before:
            if path and other[0] and (f"{other[0]}/".startswith(f"{path}/") or f"{path}/".startswith(f"{other[0]}/")):
                found.append(f"{_told((path, source))} with {_told(other)}")
        before.append((path, source))
    return found


def _told(one: _Path) -> str:
    path, source = one
    return f"{json.dumps(path)} ({source})" if source else json.dumps(path)
