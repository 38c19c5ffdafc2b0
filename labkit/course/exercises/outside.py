# SPDX-License-Identifier: Apache-2.0
"""The world outside of the mesh, played by pods without sidecars whose Services show themselves to no sidecar."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import cluster
from labkit.course.clients import client
from labkit.ground.errors import ClusterError
from labkit.istio import Release

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BANK", "CASINO", "NAMESPACE", "WEATHER", "Answer", "ask", "bring", "look", "remove", "until"]

NAMESPACE = "outside"
WEATHER, CASINO, BANK = (f"{name}.{NAMESPACE}.svc.cluster.local" for name in ("weather", "casino", "bank"))
"""Hosts outside. The first two speak HTTP at port 80, the bank HTTPS at port 443 and nothing else."""

_PAGES = {"weather": f"http://{WEATHER}/get", "casino": f"http://{CASINO}/get", "bank": f"https://{BANK}/get"}

_LONGEST = 5
"""Seconds that one call may take."""

_CUT = dict.fromkeys(("35", "52", "56"), "cut")
"""curl's exit codes for a connection that somebody ended: in TLS' handshake, before an answer, and in it."""

_WORLD = Path(__file__).with_name("outside.yaml")


@dataclass(frozen=True)
class Answer:
    """What a client got.

    Args:
        status: The status, "200"; "cut" where the connection ended before, else curl's own number, as "curl 28".
        seconds: How long it took.
        body: The content.
    """

    status: str
    seconds: float
    body: str


def bring(release: Release, *, timeout: float = 120.0) -> None:
    """Make the world, and in namespace bookinfo a client with what tells its sidecar whom to trust as the bank.

    The Services have the annotation `networking.istio.io/exportTo: "."`: sidecars of other namespaces are told nothing
    of them, so they are hosts that the mesh does not know. Secret `bank-ca` in bookinfo has the bank's certificate.

    Args:
        release: Whose sample with curl the client is.
        timeout: Seconds until all of it is ready.

    Raises:
        ClusterError: The cluster refused something.
        NotReadyError: A pod was not ready in time.
    """
    calling = client(release, "bookinfo").deployment
    cluster.apply(_WORLD)
    cluster.apply(_sample(release), namespace="bookinfo")
    for where, deployment in ((NAMESPACE, "world"), ("bookinfo", calling)):
        cluster.wait_for(cluster.Ready(where, (deployment,)), timeout=timeout)


def remove(release: Release) -> None:
    """Take the world away, and the client; the rules stay."""
    cluster.delete(_sample(release), namespace="bookinfo")
    cluster.delete(_WORLD)


def _sample(release: Release) -> Path:
    name = client(release, "bookinfo").deployment
    return release.samples / name / f"{name}.yaml"


def ask(release: Release, url: str, n: int = 1) -> list[Answer]:
    """Have the client ask for a page outside, one time after the other. Who signed a certificate is not looked at.

    Args:
        release: Which client there is.
        url: What is asked for.
        n: How often.

    Raises:
        ClusterError: There is no client.
    """
    return _ask(release, [url] * n)


def _ask(release: Release, *calls: Sequence[str]) -> list[Answer]:
    """The answers to calls of curl, each with one or more addresses; one exec for all, as that costs most."""
    calling = client(release, "bookinfo")
    curl = f"curl -sk -m {_LONGEST} -w '\\n@@ %{{http_code}} %{{time_total}}\\n'"
    said = cluster.exec(
        f"deploy/{calling.deployment}",
        ["sh", "-c", "; ".join(f'{curl} {shlex.join(urls)}; echo "== $?"' for urls in calls)],
        container=calling.deployment,
        namespace="bookinfo",
        show=False,
    )
    answers = []
    for each in re.findall(r"(.*?)== (\d+)\n", said, re.DOTALL):
        for body, status, seconds in re.findall(r"(.*?)\n@@ (\d+) ([\d.]+)\n", each[0], re.DOTALL):
            got = status if status != "000" else _CUT.get(each[1], f"curl {each[1]}")
            answers.append(Answer(got, float(seconds), body))
    if len(answers) != sum(map(len, calls)):
        raise ClusterError(f"{calling.name} did not make its calls; it said: {said.strip()[:200]!r}")
    return answers


def until(release: Release, url: str, status: str, *, saying: str = "", timeout: float = 30.0) -> Answer:
    """Wait until the client gets this answer: a rule needs a moment to reach its sidecar.

    Args:
        release: Which client there is.
        url: What is asked for.
        status: The status, as `Answer` has it.
        saying: Words that the body has to have.
        timeout: Seconds.

    Raises:
        ClusterError: There is no client.
        NotReadyError: The answer was another one, up to the last; says which.
    """
    seen: list[Answer] = []

    def other() -> str | None:
        seen[:] = ask(release, url)
        good = seen[0].status == status and saying in seen[0].body
        return None if good else f"{seen[0].status} {seen[0].body[:60]!r}"

    cluster.wait_for(cluster.Condition(f"{status} {saying} from {url}", other), timeout=timeout)
    return seen[0]


def look(release: Release, reached: Collection[str] | None = None, *, timeout: float = 30.0) -> pd.DataFrame:
    """What the client gets from each host outside, asked once.

    Args:
        release: Which client there is.
        reached: Wait until these answer, and no others; None for what is at once.
        timeout: Seconds.

    Returns:
        One row (index "client"), a column a host ("weather", "casino", "bank"), as text: see `Answer.status`.

    Raises:
        ClusterError: There is no client.
        NotReadyError: Others were reached, up to the last look.
    """
    import pandas as pd

    row: dict[str, str] = {}

    def other() -> str | None:
        row.update(zip(_PAGES, (one.status for one in _ask(release, *([url] for url in _PAGES.values()))), strict=True))
        found = {name for name, status in row.items() if status == "200"}
        return None if reached is None or found == set(reached) else str(row)

    what = "the rule to reach the client's sidecar"
    cluster.wait_for(cluster.Condition(what, other), timeout=timeout)
    index = pd.Index([client(release, "bookinfo").name], name="client", dtype="str")
    return pd.DataFrame([row], index=index, dtype="str")
