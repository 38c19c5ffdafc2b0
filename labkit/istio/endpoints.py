# SPDX-License-Identifier: Apache-2.0
"""Which endpoint gets how many requests, and which one is left out: as the caller's own Envoy has counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit import cluster
from labkit.istio.envoy.admin import Admin, find
from labkit.istio.envoy.dump import address_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["endpoints"]


def endpoints(workload: str, host: str, *, namespace: str = "bookinfo") -> pd.DataFrame:
    """How many requests an Envoy has sent to each endpoint of a Service, and which ones it leaves out now.

    It counts anew whenever it is given other settings for the Service: take the difference of two looks between which
    nothing was applied.

    Args:
        workload: Whose Envoy, as for `istio.inside`: the caller's; "ingress" for the gateway's.
        host: The Service's name. Its subsets are added up.
        namespace: The Service's, and the workload's.

    Returns:
        One row an endpoint (index "endpoint": its pod's name, or its address where no pod has that), in the order of
        their names. Columns: requests (int64, tries that have ended), errors (int64, of them: 5xx and those without an
        answer), ejected (bool: left out by outlier detection); no row where the Envoy knows of no such Service.

    Raises:
        SettingError: There is no such workload; says which there are.
        ClusterError: The cluster or the proxy does not answer.
    """
    import pandas as pd

    with Admin(find(workload, namespace)) as admin:
        page = admin.json("/clusters?format=json")
    pods = {
        one.get("status", {}).get("podIP"): one["metadata"]["name"] for one in cluster.get("pods", namespace=namespace)
    }
    rows = []
    for one in page.get("cluster_statuses") or []:
        direction, _, rest = str(one.get("name", "")).partition("|")
        if direction != "outbound" or not rest.rpartition("|")[2].startswith(f"{host}.{namespace}."):
            continue
        for end in one.get("host_statuses") or []:
            where = address_of(end.get("address") or {})
            counted = {stat.get("name"): int(stat.get("value", 0)) for stat in end.get("stats") or []}
            left_out = bool((end.get("health_status") or {}).get("failed_outlier_check"))
            name = pods.get(where.rpartition(":")[0], where)
            # Envoy's own total leaves out what found no connection.
            errors = counted.get("rq_error", 0)
            rows.append((name, counted.get("rq_success", 0) + errors, errors, left_out))
    frame = pd.DataFrame(rows, columns=["endpoint", "requests", "errors", "ejected"])
    types = {"endpoint": "str", "requests": "int64", "errors": "int64", "ejected": "bool"}
    found = frame.astype(types).groupby("endpoint", sort=True)
    return found.agg({"requests": "sum", "errors": "sum", "ejected": "any"})
