# SPDX-License-Identifier: Apache-2.0
"""What no table tells of Services, their endpoints, Ingresses and NetworkPolicies."""

from __future__ import annotations

import ipaddress
from typing import Any

from labkit.ground.names import dns1123_subdomain
from meshbox.api.builtin.internal import internal
from meshbox.api.builtin.rules import Context, call
from meshbox.api.builtin.vocabulary import CIDR, IP, VOCABULARY
from meshbox.api.builtin.well_formed import as_dict, as_list, named
from meshbox.api.problems import Cause, duplicate, forbidden, invalid
from meshbox.contracts import Obj
from meshbox.ip_texts import Address, read_ip, read_network

__all__: list[str] = []

_PODS, _OWN = ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("127.0.0.0/16")


@call("external_name")
def _external_name(text: str | None, path: str, causes: list[Cause], _context: Context) -> None:
    named((text or "").removesuffix("."), path, dns1123_subdomain, causes)


@call("source_range")
def _source_range(text: str | None, path: str, causes: list[Cause], _context: Context) -> None:
    causes += VOCABULARY["cidr"]((text or "").strip(), path, ())


@call("port_sets")
def _port_sets(ports: list[Obj], path: str, causes: list[Cause], context: Context) -> None:
    """What ports may not have of their Service's type, and not have in common."""
    if (context.whole["spec"].get("type") or "ClusterIP") == "ClusterIP":
        detail = "may not be used when `type` is 'ClusterIP'"
        causes += [forbidden(f"{path}[{at}].nodePort", detail) for at, one in enumerate(ports) if one.get("nodePort")]
    taken: set[Any] = set()
    for index, port in enumerate(ports):
        protocol, number = port.get("protocol"), port.get("nodePort")
        if number and (protocol, number) in taken:
            causes.append(duplicate(f"{path}[{index}].nodePort", number))
        taken.add((protocol, number))
    taken.clear()
    for index, port in enumerate(ports):
        protocol, number = port.get("protocol"), port.get("port")
        if (protocol, number) in taken:
            given = internal("api.core.v1.ServicePort", {"protocol": protocol, "port": number})
            causes.append(duplicate(f"{path}[{index}]", given))
        taken.add((protocol, number))


@call("old_ip")
def _old_ip(text: Any, path: str, causes: list[Cause], _context: Context) -> None:
    # Endpoints' addresses are asked twice, by an older rule and by that for special addresses.
    if (address := read_ip(text)) is None:
        causes.append(invalid(path, text or "", "must be a valid IP address"))
        return
    _special(address, text, path, causes)


def _special(address: Address, text: str, path: str, causes: list[Cause]) -> None:
    """No endpoint has an address that means something else."""
    if address in _PODS and address not in _OWN:
        # The addresses of a sandbox's pods lie in 127.1.0.0/16 to 127.254.0.0/16.
        return
    for kind, words in (
        ("is_unspecified", f"may not be unspecified ({text})"),
        ("is_loopback", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ("is_link_local", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
    ):
        if getattr(address, kind):
            causes.append(invalid(path, text, words))


@call("slice_address")
def _slice_address(text: Any, path: str, causes: list[Cause], context: Context) -> None:
    kind, ip = context.whole.get("addressType"), read_ip(text)
    if kind == "FQDN":
        causes += VOCABULARY["required"](text, path, ()) or VOCABULARY["domain2"](text, path, ())
    elif kind not in ("IPv4", "IPv6"):
        return
    elif ip is None:
        causes.append(invalid(path, text or "", IP))
    elif kind == "IPv6" and ip.version == 4 and ":" in text:
        # Of IPv6 all is read as it should be written.
        causes.append(invalid(path, text, "must not be an IPv4-mapped IPv6 address"))
    elif kind == "IPv6" and ip.version == 6 and str(ip) != text:
        causes.append(invalid(path, text, f'must be in canonical form ("{ip}")'))
    else:
        if kind != f"IPv{ip.version}":
            causes.append(invalid(path.rpartition("[")[0], text, f"must be an {kind} address"))
        _special(ip, text, path, causes)


@call("ingress_class")
def _ingress_class(obj: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    key, name = "kubernetes.io/ingress.class", as_dict(obj.get("spec")).get("ingressClassName")
    annotations = as_dict(as_dict(obj.get("metadata")).get("annotations"))
    if context.new and name is not None and key in annotations and (annotations[key] or "") != name:
        detail = "must match `ingressClassName` when both are specified"
        causes.append(invalid(f"annotations.{key}", annotations[key] or "", detail))


@call("end_port")
def _end_port(port: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    start, end, where = port["port"], port["endPort"], f"{path}.endPort"
    if isinstance(start, str):
        causes.append(invalid(where, end, "may not be specified when `port` is non-numeric"))
        return
    if end < start:
        causes.append(invalid(where, start, "must be greater than or equal to `port`"))
    causes += VOCABULARY["port"](end, where, ())


@call("families")
def _families(given: list[Any], path: str, causes: list[Cause], _context: Context) -> None:
    """A pod's addresses, or the ranges of a node's pods, are of one family each."""
    texts = [(one.get("ip") or "") if isinstance(one, dict) else one for one in given]
    of_pod = texts != given
    if all((read_ip if of_pod else read_network)(one) for one in texts) and len({":" in x for x in texts}) < len(texts):
        shown = [{"IP": one} for one in texts] if of_pod else given
        words = f"may specify no more than one {'IP' if of_pod else 'CIDR'} for each IP family"
        causes.append(invalid(path, shown, words))


@call("excepted")
def _excepted(block: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    if (read := read_network(block.get("cidr"))) is None:
        return
    whole: Any = read[1]
    for index, text in enumerate(as_list(block.get("except"))):
        where = f"{path}.except[{index}]"
        if (found := read_network(text)) is None:
            causes.append(invalid(where, text or "", CIDR))
            continue
        part: Any = found[1]
        if not (part.version == whole.version and part.subnet_of(whole) and part != whole):
            causes.append(invalid(where, text, "must be a strict subset of `cidr`"))
