# SPDX-License-Identifier: Apache-2.0
"""Objects of a sandbox that got another block of addresses: what says 127.A.x.y says 127.B.x.y from then on.

Addresses are handed out inside the block: ClusterIPs, pods', the node's, the load balancer's. They stand in many
places: `clusterIP`, `podIP`, Endpoints and slices, keys of managedFields, and wherever a user copied them to (a
ServiceEntry, an `ipBlocks` of a policy, a ConfigMap's text). All of the block is this sandbox's and nobody else's, so
each such word means the same address of the new block; the last two numbers stay. Events tell of the past and stay.
"""

from __future__ import annotations

import base64
import binascii
import functools
import ipaddress
import json
import logging
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from meshbox.addresses import AddressPlan
from meshbox.contracts import Obj

if TYPE_CHECKING:
    from meshbox.api.store import Store

__all__ = ["blocks", "moved", "settle"]

log = logging.getLogger(__name__)

_HISTORY = frozenset({"events", "events.events.k8s.io"})
_ENCODED = {"secrets": "data", "configmaps": "binaryData"}
"""Fields whose values are base64."""


def blocks(store: Store) -> set[int]:
    """X of every block 127.X.0.0/16 that a Service, pod or node has an address of."""
    found: set[int] = set()
    for entry in store.entries("services"):
        found |= _numbers(entry.obj.get("spec", {}).get("clusterIP"))
    for entry in store.entries("pods"):
        status = entry.obj.get("status") or {}
        found |= _numbers(status.get("podIP")) | _numbers(status.get("hostIP"))
    for entry in store.entries("nodes"):
        found |= _numbers(str(entry.obj.get("spec", {}).get("podCIDR", "")).partition("/")[0])
    return found


def _numbers(address: Any) -> set[int]:
    try:
        parts = ipaddress.IPv4Address(address).packed
    except ValueError:
        return set()
    # 127.0.0.1 is every machine's own, whoever may have written it there.
    return {parts[1]} if parts[0] == 127 and 1 <= parts[1] <= 254 else set()


def moved(resource: str, obj: Obj, old: Collection[int], new: int) -> Obj:
    """`obj` with each address of the blocks `old` in the block `new`; `obj` itself where it has none.

    Args:
        resource: What it is, e.g. "services".
        obj: The object; not changed.
        old: X of the blocks 127.X.0.0/16 that it may speak of.
        new: X of the block it is to speak of.
    """
    if resource in _HISTORY or not old:
        return obj
    pattern = re.compile(rf"(?<![0-9.])127\.(?:{'|'.join(map(str, sorted(old)))})\.(?=\d+\.\d+(?![0-9]|\.[0-9]))")

    def said(text: str) -> str:
        return pattern.sub(f"127.{new}.", text)

    # Keys too: those of managedFields have addresses in them. Neither digits nor dots are ever escaped in JSON.
    text = json.dumps(obj, ensure_ascii=False)
    changed: Obj = json.loads(said(text))
    field = _ENCODED.get(resource, "")
    values = changed.get(field)
    if isinstance(values, dict):
        changed[field] = {key: _encoded(value, said) for key, value in values.items()}
    return obj if changed == obj else changed


def _encoded(value: Any, said: Any) -> Any:
    """A value in base64 with its text changed; what is no text stays."""
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError, TypeError):
        return value
    changed = said(text)
    return value if changed == text else base64.b64encode(changed.encode()).decode()


def settle(store: Store, plan: AddressPlan) -> str:
    """Move the objects that were left in another block into `plan`'s; returns what was done, "" for nothing.

    It is no write: versions stay, and nobody watches yet. The journal is written anew with it; where that fails (a full
    disk), the next start finds the old addresses and does the same again.
    """
    old = blocks(store) - {plan.number}
    if not old:
        return ""
    count = 0
    for resource in store.resources():
        count += store.rewrite(resource, functools.partial(moved, resource, old=old, new=plan.number))
    store.compact()
    where = ", ".join(f"127.{number}.0.0/16" for number in sorted(old))
    words = f"moved from {where} to 127.{plan.number}.0.0/16: {count} objects have new addresses"
    log.warning("the sandbox has %s", words)
    return words
