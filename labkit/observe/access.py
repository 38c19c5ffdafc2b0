# SPDX-License-Identifier: Apache-2.0
"""Who may call whom: asked from inside the pods, with the curl that they have, and drawn."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labkit import cluster
from labkit.ground.errors import ClusterError
from labkit.observe.looks import BAD, DEGRADED, GOOD, dress

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["Call", "Caller", "ask", "draw"]

_LONGEST = 5
"""Seconds that one call may take."""

_WHY = {"7": "refused", "28": "timeout", "52": "empty", "56": "reset"}
"""curl's exit codes where nobody answers."""


@dataclass(frozen=True)
class Caller:
    """A Deployment from which calls are made; its container has `sh` and `curl`.

    Args:
        namespace: Its namespace.
        deployment: Its name.
        container: Which container; "" for the one that is called as the Deployment.
    """

    namespace: str
    deployment: str
    container: str = ""

    @property
    def name(self) -> str:
        """As "namespace/deployment"."""
        return f"{self.namespace}/{self.deployment}"


@dataclass(frozen=True)
class Call:
    """One request.

    Args:
        name: What it is called in tables and figures.
        url: http://SERVICE.NAMESPACE:PORT/PATH.
        method: The HTTP method.
        headers: Header fields.
    """

    name: str
    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """curl's arguments."""
        headers = [word for name, value in self.headers.items() for word in ("-H", f"{name}: {value}")]
        return ["-X", self.method, *headers, self.url] if self.method != "GET" else [*headers, self.url]


def ask(callers: Sequence[Caller], calls: Sequence[Call], *, rounds: int = 1) -> pd.DataFrame:
    """Have each caller make each call, one after the other; the callers at the same time.

    Args:
        callers: Who calls.
        calls: What they ask for; each has a name of its own.
        rounds: How often, 0.3 s apart; the last round counts. A proxy judges what comes by a connection from before a
            rule by the rules of then, until it has closed that: 4 rounds are enough where a rule was just taken up.

    Returns:
        One row a caller (index "client": "namespace/deployment"), one column a call, in the order given. Each cell is
        text: the status, "200", or where nobody answered "reset", "refused", "timeout", "empty" or "curl 6", curl's own
        number for it.

    Raises:
        ClusterError: A caller is not there, or has no curl.
    """
    from concurrent.futures import ThreadPoolExecutor

    import pandas as pd

    # One shell for all calls of a caller: each `kubectl exec` costs more than a call. $? is read before printf runs.
    script = "; ".join(
        f'c=$(curl -s -o /dev/null -m {_LONGEST} -w "%{{http_code}}" {shlex.join(call.words)}); echo "$? $c"'
        for call in calls
    )

    def one(caller: Caller) -> list[str]:
        words = ["sh", "-c", f"for i in $(seq {rounds - 1}); do {script}; sleep 0.3; done; {script}"]
        container = caller.container or caller.deployment
        where = f"deploy/{caller.deployment}"
        said = cluster.exec(where, words, container=container, namespace=caller.namespace, show=False)
        lines = [line.partition(" ") for line in said.splitlines()][-len(calls) :]
        if len(lines) != len(calls) or any(exit_code == "127" for exit_code, _, _ in lines):
            raise ClusterError(
                f"{caller.name} did not make its {len(calls)} calls; it said: {said.strip()[:200]!r}",
                next_step=f"Has container {container!r} a shell and curl?",
            )
        return [status if code == "0" else _WHY.get(code, f"curl {code}") for code, _, status in lines]

    with ThreadPoolExecutor(max(1, min(4, len(callers)))) as pool:
        rows = list(pool.map(one, callers))
    index = pd.Index([caller.name for caller in callers], name="client", dtype="str")
    return pd.DataFrame(rows, index=index, columns=[call.name for call in calls], dtype="str")


def draw(seen: Mapping[str, pd.DataFrame], title: str = "Who was let in") -> go.Figure:
    """Tables of `ask` side by side: each cell says what came back, and has a colour besides.

    Args:
        seen: Tables by what stands above them, such as "before" and "after"; the same callers in each.
        title: Above all.

    Returns:
        The figure: green for an answer, red for who was refused (401, 403, or no answer at all),
        amber for what failed on the way (500 and above).
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    rows = max((len(table) for table in seen.values()), default=0)
    figure = make_subplots(
        cols=max(1, len(seen)), subplot_titles=list(seen), shared_yaxes=True, horizontal_spacing=0.03
    )
    scale = [(0.0, BAD), (1 / 3, BAD), (1 / 3, DEGRADED), (2 / 3, DEGRADED), (2 / 3, GOOD), (1.0, GOOD)]
    for place, table in enumerate(seen.values(), 1):
        cells = [[str(cell) for cell in row] for row in table.itertuples(index=False)]
        heat = go.Heatmap(
            x=list(table.columns),
            y=list(table.index),
            z=[[_grade(cell) for cell in row] for row in cells],
            text=cells,
            texttemplate="%{text}",
            textfont={"color": "#ffffff", "size": 14},
            hovertemplate="%{y} → %{x}: %{text}<extra></extra>",
            colorscale=scale,
            zmin=0,
            zmax=2,
            showscale=False,
            xgap=3,
            ygap=3,
        )
        figure.add_trace(heat, row=1, col=place)
    figure = dress(figure, title, height=150 + 44 * rows)
    return figure.update_yaxes(autorange="reversed", showgrid=False).update_xaxes(showgrid=False)


def _grade(cell: str) -> int:
    """0 for who was refused, 1 for what failed on the way, 2 for an answer."""
    if not cell.isdigit() or cell in ("401", "403"):
        return 0
    return 1 if int(cell) >= 500 else 2
