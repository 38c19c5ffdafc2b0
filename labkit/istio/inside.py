# SPDX-License-Identifier: Apache-2.0
"""What of an Envoy's own configuration the last write changed, and what it is now.

To compare, something must be known from before: the last look at the same workload that this process took before the
last write. So a first look has nothing to compare with, and says so; nothing runs between two looks.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from labkit import cluster, display
from labkit.ground.errors import SettingError
from labkit.istio.envoy import differences, fields, states
from labkit.istio.envoy.admin import Admin, Proxy, find, nearest
from labkit.istio.envoy.differences import Change, short
from labkit.istio.envoy.dump import KINDS, Dump, Packed, completed, configuration

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Inside", "inside"]

_WIDE = 240
"""Characters of a value that a table shows; `changes` has all of it."""

_LONG = 24
"""Rows of the present state that are shown; `table` has them all."""

_QUIET = 0.15
"""Seconds between two looks at an Envoy that is waited for."""

_SYMBOLS = {"added": "+", "removed": "−", "changed": "~"}


@dataclass(frozen=True)
class _Look:
    """What a proxy said, and the uid of its pod."""

    dump: Packed
    pod: str

    @property
    def taken(self) -> float:
        """When, in seconds since 1970."""
        return self.dump.read_at.timestamp()


_Key = tuple[str, str, str]
_looks: dict[_Key, tuple[_Look | None, _Look]] = {}
"""By cluster, namespace and workload: the last look before the last write, and the last look."""


@dataclass(frozen=True)
class Inside(display.Shown):
    """A part of an Envoy's configuration, and how it differs from before.

    Args:
        workload: Whose sidecar, or which gateway.
        namespace: Where it is.
        pod: The pod that was asked.
        what: "listeners", "routes", "clusters", "endpoints" or "secrets".
        compared_with: When the look was taken that it is compared with; None where nothing is known from before.
        note: What there is to say of the comparison.
        rows: The differences, in Envoy's own words.
        dump: All that the Envoy said.
    """

    workload: str
    namespace: str
    pod: str
    what: str
    compared_with: datetime | None
    note: str
    rows: tuple[Change, ...]
    dump: Dump = field(repr=False, compare=False)

    def changes(self) -> pd.DataFrame:
        """The differences, a row each; none where nothing differs or nothing is known from before.

        Returns:
            Columns, all str: resource, field ("" for the whole), change ("added", "removed", "changed"), before, after
            (one line of YAML; "" for nothing), tables (for routes, comma-separated), meaning (of the field).
        """
        import pandas as pd

        columns = ["resource", "field", "change", "before", "after", "tables", "meaning"]
        rows = [
            [o.resource, o.field, o.change, short(o.before), short(o.after), ",".join(o.tables), _meaning(o)]
            for o in self.rows
        ]
        return pd.DataFrame(rows, columns=columns, dtype="str")

    def table(self) -> pd.DataFrame:
        """What there is now, a row each.

        Returns:
            The columns hang on `what`; str, where nothing else is said. listeners: listener, address, chain, match,
            leads_to. routes: table, host, domains, match, leads_to. clusters: cluster, type, lb_policy, tls, from.
            endpoints: cluster, address, weight (int64), health, workload. secrets: secret, kind, names, valid_from,
            expires.
        """
        import pandas as pd

        columns, rows = states.rows(self.dump, self.what)
        types = {name: "int64" if name == "weight" else "str" for name in columns}
        return pd.DataFrame(rows, columns=columns).astype(types)

    def rich(self) -> display.Rich:
        """What changed, what the fields mean, and what there is now; long values shortened."""
        title = f"{self.what} of {self.workload}'s Envoy (pod {self.pod})"
        shown = display.message(f"{title}\n{self.note}", "good" if self.rows else "note")
        if self.rows:
            shown += display.table(list(self._shown()), ["", "Where", "Field", "Before", "After"])
            shown += _meanings(fields.explained(_looked_at(self.rows)))
        for one in self.dump.refused:
            shown += display.message(f"Envoy refused what it was given, and goes on with what it had: {one}", "bad")
        columns, rows = states.rows(self.dump, self.what, {one.resource for one in self.rows}, self.namespace)
        caption = f"Now: {min(len(rows), _LONG)} of {len(rows)} rows" + (
            "; `.table()` has them all" if len(rows) > _LONG else ""
        )
        cells = [dict(zip(columns, (_cut(str(cell)) for cell in row), strict=True)) for row in rows[:_LONG]]
        return shown + display.table(cells, columns, caption=caption)

    def _shown(self) -> Iterator[dict[str, str]]:
        for one in self.rows:
            where = one.resource + (f" (tables {', '.join(one.tables)})" if len(one.tables) > 1 else "")
            yield {
                "": _SYMBOLS[one.change],
                "Where": where,
                "Field": one.field or "all of it",
                "Before": _cut(short(one.before)),
                "After": _cut(short(one.after)),
            }


def _cut(text: str) -> str:
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 1]}…"


def _looked_at(rows: tuple[Change, ...]) -> Iterator[object]:
    for one in rows:
        yield _path(one)
        yield one.before
        yield one.after


def _path(change: Change) -> str:
    """The fields of a path, without what stands in brackets."""
    found, depth = [], 0
    for sign in change.field:
        depth += (sign == "[") - (sign == "]")
        if not depth and sign != "]":
            found.append(sign)
    return "".join(found).removesuffix(" (order)")


def _meaning(change: Change) -> str:
    last = _path(change).rpartition(".")[2]
    return next(iter(fields.explained([last]).values()), "")


def _meanings(known: dict[str, str]) -> display.Rich:
    """What fields mean, each with a link to Envoy's page."""
    if not known:
        return display.Rich("", "")
    items = "".join(
        f'<li><a href="{fields.page(name)}" target="_blank" rel="noopener"><code>{name}</code></a> '
        f"{html.escape(said)}</li>"
        for name, said in known.items()
    )
    lines = [f"  {name}: {said}" for name, said in known.items()]
    return display.Rich(f"<details open><summary>The fields</summary><ul>{items}</ul></details>", "\n".join(lines))


def inside(
    workload: str,
    what: str = "routes",
    *,
    namespace: str = "bookinfo",
    since: Inside | None = None,
    timeout: float = 5.0,
) -> Inside:
    """What of an Envoy's own configuration the last write changed, and what it is now.

    It is compared with the last look at this workload, at whatever part, that was taken before the last write
    (`cluster.apply`, `cluster.kubectl` …) of this process; what others write meanwhile shows as well. A
    first look, also after a restart of the kernel, has nothing to compare with; it says what Envoy took up since that
    write.

    Args:
        workload: A Deployment ("reviews-v1"), an app ("reviews"), a pod or a Service; "ingress", "egress".
        what: "listeners", "routes", "clusters", "endpoints" or "secrets"; of secrets no private byte is shown.
        namespace: Where the workload is.
        since: An earlier look to compare with instead.
        timeout: Seconds, 0 to 60, that Envoy has to take up the last write; after a write that does not concern it, it
            is waited for in vain for so long.

    Raises:
        SettingError: There is no such part or workload; says which there are.
        ClusterError: The cluster or the proxy does not answer.
    """
    if what not in KINDS:
        near = nearest(what, KINDS)
        raise SettingError(f"Envoy's configuration has no {what!r}", next_step=f"{near}There are {', '.join(KINDS)}.")
    if not 0 <= timeout <= 60:
        raise SettingError(f"timeout={timeout:g} is out of range", next_step="0 to 60 seconds.")
    proxy = find(workload, namespace)
    key = cluster.current().uid, proxy.namespace, proxy.workload
    written = cluster.last_write()
    earlier, last = _looks.get(key, (None, None))
    fresh = last is None or last.taken < written
    known = last.dump.open() if last is not None and (fresh or earlier is None) else None
    with Admin(proxy) as admin:
        dump, in_time = _taken_up(admin, written if fresh else 0.0, known, timeout)
        dump = completed(dump, admin)
    if last is not None and fresh:
        earlier = last
    elif last is not None and earlier is None and known is not None and known.moments != dump.moments:
        # Somebody else wrote, or a terminal.
        earlier = last
    _looks[key] = earlier, _Look(dump.packed(), proxy.uid)
    earlier = earlier or last
    then = since.dump if since is not None else earlier.dump.open() if earlier is not None else None
    where = proxy.workload, proxy.namespace, proxy.pod, what
    if then is None:
        return Inside(*where, None, _first(proxy, dump, what, written, in_time), (), dump)
    before, after = ({name: one.body for name, one in of.of(what).items()} for of in (then, dump))
    rows = tuple(differences.changes(before, after, what))
    note = _compared(then.read_at, written, rows, in_time, earlier is not None and earlier.pod != proxy.uid)
    return Inside(*where, then.read_at, note, rows, dump)


def _taken_up(admin: Admin, written: float, known: Dump | None, timeout: float) -> tuple[Dump, bool]:
    """The configuration once the last write is in it, and whether it is.

    Envoy says of each part when it took it up, and under which version. What follows within a moment is waited for.
    """
    dump = configuration(admin)
    if not written:
        return dump, True
    deadline = time.monotonic() + timeout
    in_time = False
    while True:
        # What is gone says no more when it went.
        gone = known is not None and bool(known.moments.keys() - dump.moments.keys())
        in_time = in_time or gone or _since(dump.latest, written + admin.ahead)
        if time.monotonic() >= deadline:
            return dump, in_time
        time.sleep(min(_QUIET, max(0.0, deadline - time.monotonic())))
        again = configuration(admin)
        settled = again.moments == dump.moments
        dump = again
        if in_time and settled:
            return dump, True


def _since(when: datetime | None, written: float) -> bool:
    return when is not None and when.timestamp() + 0.001 >= written  # an Envoy cuts its times to milliseconds


def _clock(moment: datetime) -> str:
    return moment.astimezone().strftime("%H:%M:%S")


def _first(proxy: Proxy, dump: Dump, what: str, written: float, in_time: bool) -> str:
    said = f"First look at {proxy.workload} in this kernel: nothing is known from before. Look again after a change."
    if not written:
        return said
    moment = datetime.fromtimestamp(written, UTC)
    if not in_time:
        return f"{said} Since the last write, at {_clock(moment)}, Envoy has taken up nothing new."
    newer = [n for n, one in dump.of(what).items() if _since(one.updated, written)]
    named = f"{', '.join(newer[:6])}{' …' if len(newer) > 6 else ''}" if newer else f"nothing of its {what}"
    return f"{said} Since the last write, at {_clock(moment)}, Envoy has taken up {named}."


def _compared(then: datetime, written: float, rows: tuple[Change, ...], in_time: bool, other_pod: bool) -> str:
    parts = [f"Compared with {_clock(then)}"]
    if written > then.timestamp():
        parts.append(f", before the last write at {_clock(datetime.fromtimestamp(written, UTC))}")
    parts.append(
        f": {len(rows)} {'difference' if len(rows) == 1 else 'differences'}." if rows else ": nothing differs."
    )
    if not in_time:
        parts.append(" Envoy has taken up nothing since that write: it does not concern this proxy, or comes later.")
    if other_pod:
        parts.append(" The pod is another one than then.")
    return "".join(parts)
