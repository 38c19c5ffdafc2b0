# SPDX-License-Identifier: Apache-2.0
"""The way of one request, foretold from what the Envoys on it are configured to do, without sending it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from labkit import cluster, display
from labkit.cluster import Obj
from labkit.ground.errors import SettingError
from labkit.ground.int_or_string import target_port
from labkit.istio.envoy import authorization, chains
from labkit.istio.envoy.admin import GATEWAYS, Admin, Proxy, find, has_proxy, of_pod
from labkit.istio.envoy.authorization import Call, Judged
from labkit.istio.envoy.chains import Connection
from labkit.istio.envoy.destinations import Destination, resolve
from labkit.istio.envoy.dump import Dump, read
from labkit.istio.envoy.matching import Request
from labkit.istio.envoy.states import manager_of, tls_of
from labkit.istio.envoy.walk import Answer, Passage, Step, Target, endpoints_of, pass_through
from labkit.istio.ingress import ingress
from labkit.istio.releases import NAMESPACE

__all__ = ["Branch", "Endpoint", "Trace", "trace_route"]

_ARROW = re.compile(r"\s*(?:→|->)\s*")
_MOST = 4
"""Workloads behind one cluster whose Envoys are looked at."""


@dataclass(frozen=True)
class Endpoint:
    """An address that may get the request.

    Args:
        address: "host:port".
        pod: The pod; "" where it is none that is known.
        workload: What made the pod; "" as well.
    """

    address: str
    pod: str
    workload: str


@dataclass(frozen=True)
class Branch:
    """One of the ways that requests go.

    Args:
        cluster: Envoy's name for it.
        share: Its share of the requests, above 0, at most 1.
        subset: The subset, "" for none.
        endpoints: Those that may be chosen.
        tls: "mutual TLS", "TLS" or "plain".
        server: The SPIFFE ids or names of which the server must prove one.
        answer: What an Envoy answers in place of the application; None where the request arrives.
        policies: The rules of access before the application, and whether they hold.
    """

    cluster: str
    share: float
    subset: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    tls: str = "plain"
    server: tuple[str, ...] = ()
    answer: Answer | None = None
    policies: tuple[Judged, ...] = ()

    @property
    def workloads(self) -> tuple[str, ...]:
        """The workloads behind it."""
        return tuple(dict.fromkeys(one.workload for one in self.endpoints if one.workload))


@dataclass(frozen=True)
class Trace(display.Shown):
    """The way of a request.

    Args:
        way: "productpage → reviews".
        request: The request as the client sends it.
        steps: What each Envoy does, in order.
        branches: Where requests go, the largest share first; empty where the client's Envoy answers itself.
        answer: That answer; None otherwise.
        client: The SPIFFE id that the client's Envoy shows; "" for none.
        depends: What could not be evaluated.
    """

    way: str
    request: Request
    steps: tuple[Step, ...]
    branches: tuple[Branch, ...]
    answer: Answer | None
    client: str
    depends: tuple[str, ...] = field(default=())

    @property
    def flag(self) -> str:
        """The response flag that the first Envoy that answers by itself will log; "-" for none."""
        every = [self.answer, *(one.answer for one in self.branches)]
        return next((one.flag for one in every if one is not None), "-")

    @property
    def text(self) -> str:
        """As lines for a terminal."""
        return self.rich().text

    def rich(self) -> display.Rich:
        """As a table, a row a step, below the outcome in words."""
        asked = f"{self.request.method} {self.request.path} with Host {self.request.authority}"
        outcomes = [self._outcome(one) for one in self.branches] if self.answer is None else [_said(self.answer)]
        lines = [f"{self.way}: {asked}", *outcomes, *(f"It depends on {one}." for one in self.depends)]
        well = self.answer is None and all(one.answer is None for one in self.branches)
        head = display.message("\n".join(lines), "good" if well and not self.depends else "note" if well else "warning")
        rows = [
            {"Envoy of": one.proxy, "Step": one.kind, "Name": one.name, "What happens": _words(one)}
            for one in self.steps
        ]
        return head + display.table(rows, ["Envoy of", "Step", "Name", "What happens"])

    def _outcome(self, branch: Branch) -> str:
        where = ", ".join(branch.workloads) or ", ".join(one.address for one in branch.endpoints[:3]) or branch.cluster
        share = f"{branch.share:.0%} " if branch.share < 1 else ""
        if branch.answer is not None:
            return f"{share}→ {branch.cluster}: {_said(branch.answer)}"
        return f"{share}→ {where} ({branch.tls})"


def _said(answer: Answer) -> str:
    flag = f" with response flag {answer.flag}" if answer.flag != "-" else " without a response flag"
    return f"Envoy answers {answer.status}{flag}: {answer.why}." if answer.status else f"No answer{flag}: {answer.why}."


def _words(step: Step) -> str:
    passed = list(step.passed[:6]) + ([f"… {len(step.passed) - 6} more"] if len(step.passed) > 6 else [])
    return "\n".join([step.says, *(f"· not {one}" for one in passed)])


def trace_route(
    way: str,
    path: str = "/",
    *,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    port: int | None = None,
    host: str = "",
    namespace: str = "bookinfo",
) -> Trace:
    """Foretell the way of one request from the configuration of the Envoys on it; nothing is sent.

    Each Envoy is asked once. What hangs on something that is not known here, such as chance or a token, is told.

    Args:
        way: "productpage → reviews" or with "->": a workload, and whom it calls: a Service or another host. From
            "ingress", or the Deployment of a Gateway, to a workload behind it: what comes from outside.
        path: The path, with its query.
        headers: Further headers. One that is not here is not there, save those that clients set by themselves.
        method: "GET", …
        port: The port that is called; None for the Service's first that speaks HTTP; at the ingress 80.
        host: The Host header; "" for the name of the destination, at a gateway for its own address.
        namespace: That of the client, and of names without one.

    Raises:
        SettingError: `way` cannot be read, or there is no such workload, Service or port; says which there are.
        ClusterError: The cluster or a proxy does not answer.
    """
    ends = _ARROW.split(way.strip())
    if len(ends) != 2 or not all(ends):
        raise SettingError(
            f"{way!r} is no way from one to another", next_step='Write it as "productpage → reviews" or with "->".'
        )
    if not path.startswith("/"):
        raise SettingError(f"the path {path!r} does not begin with /", next_step=f'Write "/{path}".')
    client = find(ends[0], namespace)
    given = {name.lower(): value for name, value in (headers or {}).items()}
    host = host or given.pop("host", "")
    trace = _Tracer(f"{client.workload} → {ends[1]}", client, gateway=client.gateway)
    if client.gateway:
        number, tls = _gateway_port(client, port or 80)
        authority = host or _own_address(client)
        connection = Connection(client.ip, number, tls, ("h2", "http/1.1") if tls else (), _name_of(authority))
        wanted = resolve(ends[1], namespace, None)
    else:
        wanted = resolve(ends[1], namespace, port)
        authority, tls = host or wanted.authority, wanted.tls
        name = wanted.host if tls else ""
        connection = Connection(wanted.address, wanted.port, tls, () if tls else ("http/1.1",), name, client.ip)
    request = Request(method.upper(), path, authority, given, "https" if tls else "http")
    return trace.follow(connection, request, wanted)


def _own_address(gateway: Proxy) -> str:
    if gateway.namespace != NAMESPACE or gateway.workload not in GATEWAYS.values():
        return f"{gateway.workload}.{gateway.namespace}"
    return ingress(show=False).url.removeprefix("http://")


def _name_of(authority: str) -> str:
    return authority.rpartition(":")[0] or authority


def _gateway_port(client: Proxy, port: int) -> tuple[int, bool]:
    """The port of a gateway's pod behind its Service's, and whether TLS is spoken there."""
    services = cluster.get("services", client.workload, namespace=client.namespace)
    for one in services[0]["spec"].get("ports") or [] if services else []:
        if one["port"] != port:
            continue
        spec = {"containers": [{"ports": [{"name": name, "containerPort": n} for name, n in client.ports]}]}
        return target_port(one, spec) or port, str(one.get("name", "")).startswith(("https", "tls"))
    return port, port == 443


class _Tracer:
    """Follows one request; each proxy's configuration is read once."""

    def __init__(self, way: str, client: Proxy, *, gateway: bool) -> None:
        self._way, self._client, self._gateway = way, client, gateway
        self._dumps: dict[tuple[str, str], Dump] = {}
        self._pods: dict[str, dict[str, Obj]] = {}
        self._steps: list[Step] = []
        self._depends: list[str] = []

    def follow(self, connection: Connection, request: Request, wanted: Destination) -> Trace:
        dump, name = self._dump(self._client), self._client.workload
        entry = chains.inbound(dump, connection, gateway=True) if self._gateway else chains.outbound(dump, connection)
        if entry is None:
            why = f"nothing listens at port {connection.port}: no Gateway opens it" if self._gateway else "no listener"
            self._steps.append(Step(name, "listener", "", why))
            return self._ends(request, Answer(0, "-", why))
        passage = pass_through(dump, name, entry, connection, request)
        self._take(passage)
        if passage.answer is not None:
            return self._ends(request, passage.answer)
        if self._gateway:
            _, verdict = self._access(name, passage, Call(request, "", connection.port), "")
            if verdict is not None:
                return self._ends(request, verdict)
        ways = sorted(passage.targets, key=lambda target: -target.share)
        branches = tuple(self._branch(dump, target, passage.request, wanted) for target in ways)
        reached = {one.cluster.rpartition("|")[2] for one in branches}
        if self._gateway and reached and wanted.host not in reached:
            why = f"the request goes to {' and '.join(sorted(reached))}, not to {wanted.host}"
            self._steps.append(Step(name, "remark", wanted.host, why))
        return self._ends(request, None, branches)

    def _ends(self, request: Request, answer: Answer | None, branches: tuple[Branch, ...] = ()) -> Trace:
        known = self._dumps[self._client.namespace, self._client.pod].identity
        depends = tuple(dict.fromkeys(self._depends))
        return Trace(self._way, request, tuple(self._steps), branches, answer, known, depends)

    def _dump(self, proxy: Proxy) -> Dump:
        key = proxy.namespace, proxy.pod
        if key not in self._dumps:
            with Admin(proxy) as admin:
                self._dumps[key] = read(admin)
        return self._dumps[key]

    def _take(self, passage: Passage, branch: str = "") -> None:
        self._steps += [replace(step, branch=branch) for step in passage.steps]
        self._depends += passage.depends

    def _branch(self, dump: Dump, target: Target, request: Request, wanted: Destination) -> Branch:
        steps, chosen, answer = endpoints_of(dump, self._client.workload, target)
        self._steps += steps
        parts = target.cluster.split("|")
        subset = parts[2] if len(parts) == 4 else ""
        made = Branch(target.cluster, target.share, subset, answer=answer)
        if answer is not None or not chosen:
            return made
        host = parts[3] if len(parts) == 4 else wanted.host
        namespace = host.split(".")[1] if host.endswith(".svc.cluster.local") else ""
        ends = tuple(self._endpoint(one["address"], namespace) for one in chosen)
        made = replace(made, endpoints=ends)
        seen: set[str] = set()
        for one, end in zip(chosen, ends, strict=True):
            if (end.workload or end.address) in seen or len(seen) == _MOST:
                continue
            seen.add(end.workload or end.address)
            made = self._arrives(dump, made, one, end, request, namespace)
        return made

    def _endpoint(self, address: str, namespace: str) -> Endpoint:
        pod = self._pod(address, namespace)
        if pod is None:
            return Endpoint(address, "", "")
        found = of_pod(pod)
        return Endpoint(address, found.pod, found.workload)

    def _pod(self, address: str, namespace: str) -> Obj | None:
        if not namespace:
            return None
        if namespace not in self._pods:
            every = cluster.get("pods", namespace=namespace)
            self._pods[namespace] = {one.get("status", {}).get("podIP", ""): one for one in every}
        return self._pods[namespace].get(address.rpartition(":")[0].strip("[]"))

    def _arrives(
        self, dump: Dump, made: Branch, chosen: Obj, end: Endpoint, request: Request, namespace: str
    ) -> Branch:
        """The branch, once one of its endpoints was looked at."""
        context = _wrapped(dump, made.cluster, chosen)
        common = (context or {}).get("common_tls_context") or {}
        mutual = "tls_certificate_sds_secret_configs" in common or "tls_certificates" in common
        kind = "plain" if context is None else "mutual TLS" if mutual else "TLS"
        names = _names(common)
        said = kind if context is None else f"{kind}, asking for server name {context.get('sni', '') or 'none'}"
        said += f"; the client is {dump.identity}" if mutual and dump.identity else ""
        said += f"; the server must prove to be {' or '.join(names)}" if names else ""
        self._steps.append(
            Step(self._client.workload, "TLS", kind, f"to {end.pod or end.address}: {said}", (), made.cluster)
        )
        made = replace(made, tls=kind, server=names)
        pod = self._pod(chosen["address"], namespace)
        if pod is None or not has_proxy(pod):
            what = f"pod {end.pod}, which has no proxy," if pod else end.address
            self._steps.append(Step(end.workload, "application", end.address, f"{what} gets it", (), made.cluster))
            return made
        return self._serves(made, of_pod(pod), chosen["address"], context, mutual, dump.identity, request)

    def _serves(
        self,
        made: Branch,
        server: Proxy,
        address: str,
        context: Obj | None,
        mutual: bool,
        caller: str,
        request: Request,
    ) -> Branch:
        """The branch, with what the server's proxy does."""
        dump, port = self._dump(server), int(address.rpartition(":")[2])
        common = (context or {}).get("common_tls_context") or {}
        spoken = tuple(common.get("alpn_protocols") or ()) if context else ("http/1.1",)
        source = self._client.ip
        connection = Connection(server.ip, port, context is not None, spoken, (context or {}).get("sni", ""), source)
        entry = chains.inbound(dump, connection)
        if entry is None:
            why = f"the proxy of {server.pod} listens nowhere for port {port}"
            self._steps.append(Step(server.workload, "listener", "", why, (), made.cluster))
            return replace(made, answer=made.answer or Answer(503, "UF", why))
        passage = pass_through(dump, server.workload, entry, connection, request)
        ends_tls = "transport_socket" in passage.chain
        self._take(passage, made.cluster)
        if passage.chain == {} and passage.answer is not None:
            why = "the server's proxy takes no plain connection: mutual TLS is asked for" if not context else "no chain"
            return replace(made, answer=made.answer or Answer(503, "UC", why))
        if mutual and not ends_tls:
            why = f"the proxy of {server.pod} does not end TLS on this port: the handshake fails"
            self._steps.append(Step(server.workload, "answer", "", why, (), made.cluster))
            return replace(made, answer=made.answer or Answer(503, "UF", why))
        call = Call(passage.request, caller if mutual else "", port)
        policies, refused = self._access(server.workload, passage, call, made.cluster)
        made = replace(made, policies=(*made.policies, *(one for one in policies if one not in made.policies)))
        refused = refused or passage.answer
        if refused is not None:
            return replace(made, answer=made.answer or refused)
        for target in passage.targets:
            where = ", ".join(one["address"] for one in dump.endpoints[target.cluster].body["endpoints"][:1])
            said = f"cluster {target.cluster}: the application gets it"
            step = Step(server.workload, "application", where or f"port {port}", said, (), made.cluster)
            self._steps.append(step)
        return made

    def _access(self, workload: str, passage: Passage, call: Call, branch: str) -> tuple[list[Judged], Answer | None]:
        """What the policies in a proxy say of a request, and the answer if they refuse it."""
        manager = manager_of(passage.chain)
        filters = [*(passage.chain.get("filters") or []), *((manager or {}).get("http_filters") or [])]
        judged, verdict = authorization.judge(filters, passage.scopes, call)
        ours = [one for one in judged if one.ours]
        for one in ours:
            holds = {True: "holds", False: "does not hold", None: "depends"}[one.holds]
            said = f"{one.action}: {holds}" + (f" ({one.why})" if one.why else "")
            self._steps.append(Step(workload, "access", one.name, said, (), branch))
        if verdict.holds is None:
            self._depends.append(f"whether {workload} lets it in: {verdict.why}")
        if verdict.holds is not False:
            return ours, None
        self._steps.append(Step(workload, "answer", "RBAC", f"Envoy answers 403: {verdict.why}", (), branch))
        return ours, Answer(403, "-", verdict.why)


def _wrapped(dump: Dump, cluster_name: str, endpoint: Obj) -> Obj | None:
    """The TLS settings of connections to an endpoint; None for plain ones."""
    about = endpoint["metadata"].get("envoy.transport_socket_match") or {}
    every = tls_of(dump.clusters[cluster_name].body)
    return next((context for match, context in every if match.items() <= about.items()), None)


def _names(common: Mapping[str, Obj]) -> tuple[str, ...]:
    """Whom the server must prove to be."""
    combined = common.get("combined_validation_context") or {}
    context = combined.get("default_validation_context") or common.get("validation_context") or {}
    matchers = [one.get("matcher") or {} for one in context.get("match_typed_subject_alt_names") or []]
    matchers += context.get("match_subject_alt_names") or []
    exact = [str(next(iter(one.values()), "")) for one in matchers]
    return tuple(dict.fromkeys([*exact, *(context.get("verify_subject_alt_name") or [])]))
