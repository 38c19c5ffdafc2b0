# SPDX-License-Identifier: Apache-2.0
"""`nslookup` in a pod, in the form of busybox': what this pod's programs find behind a name of the cluster.

nslookup NAME: the search domains are tried first, as a pod's resolver does. A name of the world outside is asked of the
machine. No server is asked for the cluster's names, and that is said where another says which one it has asked.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys

__all__ = ["main"]


def main() -> int:
    """The program; its exit code."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    if not words or any(word.startswith("-") and word[1:5] != "type" for word in sys.argv[1:]):
        print("usage: nslookup [-type=A] NAME  (in this sandbox)", file=sys.stderr)
        return 1
    name = words[0]
    print("Server:\t\tthe sandbox\nAddress:\tnone: it gives pods the cluster's names without a DNS server\n")
    found, addresses = _looked_up(name)
    if not addresses:
        print(f"** server can't find {name}: NXDOMAIN\n")
        return 1
    for address in addresses:
        print(f"Name:\t{found}\nAddress: {address}")
    print()
    return 0


def _looked_up(name: str) -> tuple[str, list[str]]:
    """The whole name, and its addresses; none where nobody knows it."""
    namespace = os.environ.get("LABKIT_NAMESPACE", "default")
    whole = name.rstrip(".").lower()
    # Python has loaded it already, and by this name.
    names = importlib.import_module("sitecustomize").pod_names(os.environ)
    ends = (
        ("",) if name.endswith(".") else (f".{namespace}.svc.cluster.local", ".svc.cluster.local", ".cluster.local", "")
    )
    for end in ends:
        if f"{whole}{end}".endswith(".cluster.local") and (found := names.addresses(f"{whole}{end}")):
            return f"{whole}{end}", sorted(found)
    if whole.endswith(".cluster.local"):
        return name, []
    try:
        return name, sorted({str(one[4][0]) for one in socket.getaddrinfo(whole, None, socket.AF_INET)})
    except (OSError, UnicodeError):
        return name, []


if __name__ == "__main__":
    sys.exit(main())
