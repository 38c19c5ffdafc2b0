# SPDX-License-Identifier: Apache-2.0
"""`nslookup` in a pod: what the cluster's names lead to, in the form of BIND's.

There is no DNS server in the sandbox: programs in pods are given the names (`sitecustomize`, `curl_config`), and this
one says so where another says which server it has asked.
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
    if not words:
        print("usage: nslookup NAME  (in this sandbox there is no DNS server to be asked)", file=sys.stderr)
        return 1
    host = words[0]
    space = os.environ.get("LABKIT_NAMESPACE", "default")
    full, addresses = _found(host, space)
    print("Server:\t\tthe sandbox\nAddress:\tnone: it gives pods the cluster's names without a DNS server\n")
    if not addresses:
        print(f"** server can't find {host}: NXDOMAIN\n")
        return 1
    for address in addresses:
        print(f"Name:\t{full}\nAddress: {address}")
    print()
    return 0


def _found(host: str, space: str) -> tuple[str, list[str]]:
    """The whole name behind one, and its addresses."""
    entries = os.environ.get("LABKIT_DNS_CAPTURE") == "true"
    # Which of that name there is depends on the folder that Python was given first: here it is the one beside this.
    shim = importlib.import_module("sitecustomize")
    names = shim.Names(os.environ.get("LABKIT_DNS", ""), space, captured=entries)
    bare = host.rstrip(".")
    if addresses := names.addresses(bare):
        whole = bare.removesuffix(".cluster.local").removesuffix(".svc")
        # A search domain completes what is not whole: within a namespace the Service's name is enough.
        if names.addresses(f"{whole}.{space}.svc.cluster.local") == addresses and "." not in whole:
            whole += f".{space}"
        return f"{whole}.svc.cluster.local", addresses
    try:
        return bare, sorted({str(one[4][0]) for one in socket.getaddrinfo(bare, None, socket.AF_INET)})
    except OSError:
        return bare, []


if __name__ == "__main__":
    sys.exit(main())
