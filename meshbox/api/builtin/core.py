# SPDX-License-Identifier: Apache-2.0
"""Validation of Services, endpoints, ConfigMaps, Secrets and volumes' claims."""

from __future__ import annotations

import base64
from typing import Any

from labkit.ground import reading
from labkit.ground.names import config_key, dns1123_label, dns1123_subdomain, is_ip
from meshbox.api.builtin.well_formed import as_dict, as_list, labels, named, port_number, port_or_name, supported
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, not_supported, required, too_long
from meshbox.contracts import Obj

__all__ = ["CORE"]

_MOST_BYTES = 1024 * 1024
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_SECRET_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def _service(obj: Obj, _version: str, causes: list[Cause]) -> None:
    spec = as_dict(obj.get("spec"))
    kind, address = spec.get("type") or "ClusterIP", spec.get("clusterIP") or ""
    ports = as_list(spec.get("ports"))
    headless = address == "None"
    if not ports and not headless and kind != "ExternalName":
        causes.append(required("spec.ports"))
    if headless and kind in ("LoadBalancer", "NodePort"):
        causes.append(invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind == "ExternalName":
        if address:
            causes.append(forbidden("spec.clusterIPs", "may not be set for ExternalName services"))
        named((spec.get("externalName") or "").removesuffix("."), "spec.externalName", dns1123_subdomain, causes)
    elif address not in ("", "None") and not is_ip(address):
        causes.append(
            invalid("spec.clusterIPs[0]", address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
        )
    _service_ports(ports, kind, causes)
    labels(spec.get("selector"), "spec.selector", causes)
    supported(spec.get("sessionAffinity"), "spec.sessionAffinity", ("ClientIP", "None"), causes)
    for index, one in enumerate(as_list(spec.get("externalIPs"))):
        if not is_ip(one):
            detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            causes.append(invalid(f"spec.externalIPs[{index}]", one, detail))
    supported(kind, "spec.type", _SERVICE_TYPES, causes)
    policy = spec.get("externalTrafficPolicy")
    if policy and kind not in ("LoadBalancer", "NodePort") and not spec.get("externalIPs"):
        detail = "may only be set for externally-accessible services"
        causes.append(invalid("spec.externalTrafficPolicy", policy, detail))
    supported(policy, "spec.externalTrafficPolicy", ("Cluster", "Local"), causes)
    supported(spec.get("internalTrafficPolicy"), "spec.internalTrafficPolicy", ("Cluster", "Local"), causes)


def _service_ports(ports: list[Any], kind: str, causes: list[Cause]) -> None:
    names: set[str] = set()
    taken: set[tuple[str, int]] = set()
    node_ports: set[tuple[str, int]] = set()
    for index, one in enumerate(ports):
        where, port = f"spec.ports[{index}]", as_dict(one)
        name, protocol = port.get("name"), port.get("protocol") or "TCP"
        if not name:
            if len(ports) > 1:
                causes.append(required(f"{where}.name"))
        else:
            named(name, f"{where}.name", dns1123_label, causes)
            if name in names:
                causes.append(duplicate(f"{where}.name", name))
            names.add(name)
        number = port.get("port") or 0
        port_number(number, f"{where}.port", causes)
        supported(protocol, f"{where}.protocol", _PROTOCOLS, causes)
        if port.get("targetPort") not in (None, 0, ""):
            port_or_name(port["targetPort"], f"{where}.targetPort", causes)
        if (protocol, number) in taken:
            # An internal type of the server without JSON names: it prints Go's.
            shown = {
                "Name": "",
                "Protocol": protocol,
                "AppProtocol": None,
                "Port": number,
                "TargetPort": 0,
                "NodePort": 0,
            }
            causes.append(duplicate(where, shown))
        taken.add((protocol, number))
        _node_port(port.get("nodePort") or 0, protocol, kind, f"{where}.nodePort", node_ports, causes)


def _node_port(
    number: int, protocol: str, kind: str, path: str, taken: set[tuple[str, int]], causes: list[Cause]
) -> None:
    if not number:
        return
    if kind == "ClusterIP":
        causes.append(forbidden(path, "may not be used when `type` is 'ClusterIP'"))
    elif not 30000 <= number <= 32767:
        detail = "provided port is not in the valid range. The range of valid ports is 30000-32767"
        causes.append(invalid(path, number, detail))
    if (protocol, number) in taken:
        causes.append(duplicate(path, number))
    taken.add((protocol, number))


def _config_map(obj: Obj, _version: str, causes: list[Cause]) -> None:
    data, binary = as_dict(obj.get("data")), as_dict(obj.get("binaryData"))
    for field, listed in (("data", data), ("binaryData", binary)):
        for key in listed:
            causes += [invalid(f"{field}[{key}]", key, words) for words in config_key(key)]
    for key in data.keys() & binary.keys():
        causes.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
    size = sum(len((value or "").encode(errors="replace")) for value in data.values())
    size += sum(len(value or "") * 3 // 4 for value in binary.values())
    if size > _MOST_BYTES:
        causes.append(too_long("", _MOST_BYTES))


def _secret(obj: Obj, _version: str, causes: list[Cause]) -> None:
    data, plain = as_dict(obj.get("data")), as_dict(obj.get("stringData"))
    kind = obj.get("type")
    for key in {**data, **plain}:
        causes += [invalid(f"data[{key}]", key, words) for words in config_key(key)]
    size = sum(len(value or "") * 3 // 4 for key, value in data.items() if key not in plain)
    if size + sum(len((value or "").encode(errors="replace")) for value in plain.values()) > _MOST_BYTES:
        causes.append(too_long("data", _MOST_BYTES))
    for key in _SECRET_KEYS.get(kind or "", ()):
        if key not in data and key not in plain:
            causes.append(required(f"data[{key}]"))
        elif "docker" in key:
            text = plain[key] if key in plain else _decoded(data[key])
            if not _is_json_object(text):
                causes.append(invalid(f"data[{key}]", "<secret contents redacted>", "unexpected end of JSON input"))
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & {*data, *plain}:
        causes += [required(f"data[{key}]") for key in ("username", "password")]
    if kind == "kubernetes.io/service-account-token":
        name = "kubernetes.io/service-account.name"
        if not as_dict(as_dict(obj.get("metadata")).get("annotations")).get(name):
            causes.append(required(f"metadata.annotations[{name}]"))


def _decoded(text: Any) -> str:
    try:
        return base64.b64decode(text or "").decode(errors="replace")
    except ValueError:
        return ""


def _is_json_object(text: Any) -> bool:
    try:
        return isinstance(reading.json_value(str(text)), dict)
    except reading.ReadingError:
        return False


def _claim(obj: Obj, _version: str, causes: list[Cause]) -> None:
    spec = as_dict(obj.get("spec"))
    modes = as_list(spec.get("accessModes"))
    if not modes:
        causes.append(required("spec.accessModes", "at least 1 access mode is required"))
    for mode in modes:
        supported(mode, "spec.accessModes", _ACCESS_MODES, causes)
    if not as_dict(as_dict(spec.get("resources")).get("requests")).get("storage"):
        causes.append(required("spec.resources[storage]"))


def _volume(obj: Obj, _version: str, causes: list[Cause]) -> None:
    spec = as_dict(obj.get("spec"))
    if not as_list(spec.get("accessModes")):
        causes.append(required("spec.accessModes"))
    for mode in as_list(spec.get("accessModes")):
        supported(mode, "spec.accessModes", _ACCESS_MODES, causes)
    if not as_dict(spec.get("capacity")):
        causes.append(required("spec.capacity"))
    elif list(spec["capacity"]) != ["storage"]:
        causes.append(not_supported("spec.capacity", spec["capacity"], ["storage"]))


def _endpoints(obj: Obj, _version: str, causes: list[Cause]) -> None:
    for index, one in enumerate(as_list(obj.get("subsets"))):
        where, subset = f"subsets[{index}]", as_dict(one)
        addresses = as_list(subset.get("addresses"))
        if not addresses and not as_list(subset.get("notReadyAddresses")):
            causes.append(required(where, "must specify `addresses` or `notReadyAddresses`"))
        for position, address in enumerate(addresses):
            text = as_dict(address).get("ip")
            if not is_ip(text):
                detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
                causes.append(invalid(f"{where}.addresses[{position}].ip", text or "", detail))
        ports = as_list(subset.get("ports"))
        for position, port in enumerate(ports):
            path = f"{where}.ports[{position}]"
            named(as_dict(port).get("name"), f"{path}.name", dns1123_label, causes, needed=len(ports) > 1)
            port_number(as_dict(port).get("port"), f"{path}.port", causes)
            supported(as_dict(port).get("protocol"), f"{path}.protocol", _PROTOCOLS, causes)


def _endpoint_slice(obj: Obj, _version: str, causes: list[Cause]) -> None:
    kind = obj.get("addressType")
    if not kind:
        causes.append(required("addressType"))
    supported(kind, "addressType", ("FQDN", "IPv4", "IPv6"), causes)
    for index, one in enumerate(as_list(obj.get("endpoints"))):
        addresses = as_list(as_dict(one).get("addresses"))
        if not addresses:
            causes.append(required(f"endpoints[{index}].addresses", "must contain at least 1 address"))
        for position, text in enumerate(addresses):
            if kind in ("IPv4", "IPv6") and not is_ip(text):
                detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
                causes.append(invalid(f"endpoints[{index}].addresses[{position}]", text or "", detail))
    for index, one in enumerate(as_list(obj.get("ports"))):
        supported(as_dict(one).get("protocol"), f"ports[{index}].protocol", _PROTOCOLS, causes)
        named(as_dict(one).get("name"), f"ports[{index}].name", dns1123_label, causes, needed=False)


def _service_name(obj: Obj, _version: str, causes: list[Cause]) -> None:
    for index, one in enumerate(as_list(obj.get("secrets"))):
        named(as_dict(one).get("name"), f"secrets[{index}].name", dns1123_subdomain, causes, needed=False)


CORE: dict[str, Any] = {
    "ConfigMap": _config_map,
    "EndpointSlice": _endpoint_slice,
    "Endpoints": _endpoints,
    "PersistentVolume": _volume,
    "PersistentVolumeClaim": _claim,
    "Secret": _secret,
    "Service": _service,
    "ServiceAccount": _service_name,
}
"""Kind → its validation: called with the object, its apiVersion and where to add causes."""
