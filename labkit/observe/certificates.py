# SPDX-License-Identifier: Apache-2.0
"""The certificates that a sidecar holds, as its Envoy tells of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from labkit import cluster
from labkit.ground.errors import ClusterError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["certificates"]

_COLUMNS = ["of", "identity", "serial", "valid_from", "expires", "lifetime"]


def certificates(deployment: str, namespace: str = "bookinfo") -> pd.DataFrame:
    """What the sidecar of a workload proves itself with, and whom it believes.

    It is what Envoy says at its page `certs`; private keys are not in there.

    Args:
        deployment: The workload.
        namespace: Its namespace.

    Returns:
        One row a certificate, each once: of (str: "workload" for its own, "authority" for those that it believes),
        identity (str, the SPIFFE id; "" for the authority), serial (str), valid_from and expires (datetime64[ns, UTC]),
        lifetime (timedelta64[ns]).

    Raises:
        ClusterError: There is no such workload, or it has no sidecar.
    """
    import pandas as pd

    words = ["pilot-agent", "request", "GET", "certs"]
    said = cluster.exec(f"deploy/{deployment}", words, container="istio-proxy", namespace=namespace, show=False)
    try:
        held = json.loads(said)["certificates"]
        found = [
            _row(of, one) for each in held for of in ("workload", "authority") for one in each.get(_KEYS[of]) or []
        ]
    except (ValueError, KeyError, TypeError):
        raise ClusterError(
            f"the sidecar of {deployment} did not tell its certificates: {said[:200]!r}",
            next_step=f"kubectl exec -n {namespace} deploy/{deployment} -c istio-proxy -- {' '.join(words)}",
        ) from None
    table = pd.DataFrame(found, columns=_COLUMNS[:-1]).drop_duplicates(["of", "serial"], ignore_index=True)
    for column in ("valid_from", "expires"):
        table[column] = pd.to_datetime(table[column], utc=True).astype("datetime64[ns, UTC]")
    table["lifetime"] = table["expires"] - table["valid_from"]
    return table


_KEYS = {"workload": "cert_chain", "authority": "ca_cert"}


def _row(of: str, one: dict[str, Any]) -> tuple[str, str, str, str, str]:
    names = [str(name["uri"]) for name in one.get("subject_alt_names") or [] if "uri" in name]
    return of, " ".join(names), str(one["serial_number"]), str(one["valid_from"]), str(one["expiration_time"])
