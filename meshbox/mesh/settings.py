# SPDX-License-Identifier: Apache-2.0
"""The mesh's settings as ConfigMaps give them: read within bounds, and only where each has the form it must have."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

from labkit.ground import reading
from meshbox.contracts import Obj, View
from meshbox.mesh import cipher_suites
from meshbox.mesh.field_values import ConfigError, nanoseconds
from meshbox.mesh.providers import OUTPUTS, settings_unplayed
from meshbox.mesh.proxy_fields import fields_unplayed
from meshbox.mesh.revisions import DEFAULT, called, revision_of

__all__ = ["is_mesh", "mesh_problem", "mesh_settings", "not_played", "number", "settings_warnings", "span_tags"]

_ROOT = "istio-system"
_KNOWN = """
    accessLogEncoding accessLogFile accessLogFormat configSources connectTimeout defaultConfig
    defaultDestinationRuleExportTo defaultHttpRetryPolicy defaultProviders defaultServiceExportTo
    defaultVirtualServiceExportTo disablePolicyChecks dnsRefreshRate enableAutoMtls enablePrometheusMerge
    enableSdsTokenMount enableTracing
    extensionProviders h2UpgradePolicy ingressClass ingressControllerMode ingressSelector
    ingressService localityLbSetting meshMTLS mixerCheckServer mixerReportServer outboundTrafficPolicy pathNormalization
    policyCheckFailOpen proxyHttpPort proxyInboundListenPort proxyListenPort rootNamespace sdsUdsPath sdsUseK8sSaJwt
    tcpKeepalive tlsDefaults discoverySelectors trustDomain trustDomainAliases
"""
_QUIET = frozenset(_KNOWN.split())
"""Settings that are played, and those that say where things are which have their place here."""
_TODAYS = frozenset(
    {"defaultHttpRetryPolicy", "defaultProviders", "enableAutoMtls", "enablePrometheusMerge", "pathNormalization"}
    | {"meshMTLS", "tlsDefaults", "discoverySelectors"}
)
"""What Istio 1.2 did not know, and is not played there."""
_MIXERS = frozenset(
    {"configSources", "disablePolicyChecks", "enableSdsTokenMount", "mixerCheckServer", "mixerReportServer"}
    | {"policyCheckFailOpen", "sdsUdsPath", "sdsUseK8sSaJwt"}
)
"""What was for parts that only Istio 1.2 had."""
_FIXED: dict[bool, dict[str, object]] = {
    legacy: {"proxyListenPort": 15001, "proxyInboundListenPort": 15006, "proxyHttpPort": 0, "dnsRefreshRate": refresh}
    for legacy, refresh in ((True, "300s"), (False, "60s"))
}
"""Settings of which no other value is played, by whether Istio 1.2's; its demo says how often names are asked."""
_TLS = ("meshMTLS", "tlsDefaults")
_TEXTS = (
    *("rootNamespace", "accessLogFile", "accessLogFormat", "accessLogEncoding", "trustDomain"),
    *("ingressControllerMode", "ingressClass", "ingressService", "ingressSelector"),
)
_DURATIONS = (
    *("connectTimeout", "tcpKeepalive.time", "tcpKeepalive.interval"),
    *("defaultHttpRetryPolicy.perTryTimeout", "defaultHttpRetryPolicy.backoff"),
)
_EXPORTS = ("defaultServiceExportTo", "defaultVirtualServiceExportTo", "defaultDestinationRuleExportTo")
_FORMS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(("outboundTrafficPolicy", "defaultConfig"), dict),
    **dict.fromkeys(("enableAutoMtls", "enableTracing"), bool),
    "outboundTrafficPolicy.mode": str,
    "defaultConfig.gatewayTopology": dict,
    "defaultConfig.tracing": dict,
    "defaultConfig.tracing.sampling": (int, float),
    "defaultConfig.tracing.zipkin": dict,
    "defaultConfig.tracing.zipkin.address": str,
    "extensionProviders": list,
    "trustDomainAliases": list,
    "neverInjectSelector": list,
    "discoverySelectors": list,
    "alwaysInjectSelector": list,
    "defaultHttpRetryPolicy": dict,
    "defaultHttpRetryPolicy.attempts": int,
    "defaultHttpRetryPolicy.retryOn": str,
    **dict.fromkeys(_EXPORTS, list),
    "pathNormalization": dict,
    "pathNormalization.normalization": str,
    "tcpKeepalive": dict,
    "tcpKeepalive.probes": int,
    "localityLbSetting": dict,
    "localityLbSetting.enabled": bool,
    "localityLbSetting.distribute": list,
    "localityLbSetting.failover": list,
    "localityLbSetting.failoverPriority": list,
    "h2UpgradePolicy": str,
    **dict.fromkeys(_TLS, dict),
    **{f"{name}.minProtocolVersion": str for name in _TLS},
    **{f"{name}.cipherSuites": list for name in _TLS},
    "tlsDefaults.ecdhCurves": list,
}
"""What each setting that is looked at must be, the outer before the inner ones."""


_NUMBERS = frozenset(
    {"attempts", "concurrency", "maxRequestBytes", "maxTagLength", "numTrustedProxies", "port", "probes"}
    | {"proxyAdminPort", "proxyHttpPort", "proxyInboundListenPort", "proxyListenPort", "sampling", "statNameLength"}
)
"""Fields of the mesh's settings, at whatever depth, that hold a number."""

_NUMBER = (int, float)
_WORDS: dict[Any, str] = {
    str: "a string",
    dict: "a map",
    bool: "true or false",
    int: "a whole number",
    list: "a list",
    _NUMBER: "a number",
}
_LISTS = (
    *("extensionProviders", "neverInjectSelector", "alwaysInjectSelector", "discoverySelectors"),
    *("localityLbSetting.distribute", "localityLbSetting.failover"),
)
_WORD_LISTS = (
    *("localityLbSetting.failoverPriority", "tlsDefaults.ecdhCurves"),
    *(f"{one}.cipherSuites" for one in _TLS),
    *_EXPORTS,
)


@functools.lru_cache(maxsize=8)
def _read(text: str) -> Obj:
    found = reading.yaml_value(text)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise reading.ReadingError("a map of settings is expected")
    found = {name: _with_numbers(value, name) for name, value in found.items()}
    for path, form in _FORMS.items():
        value = _at(found, path)
        numeric = form in (_NUMBER, int)
        if value is not None and (not isinstance(value, form) or (numeric and isinstance(value, bool))):
            raise reading.ReadingError(f"{path} must be {_WORDS[form]}")
    for path in _LISTS:
        if not all(isinstance(one, dict) for one in _at(found, path) or []):
            raise reading.ReadingError(f"{path} must be a list of maps")
    for path in _WORD_LISTS:
        if not all(isinstance(one, str) for one in _at(found, path) or []):
            raise reading.ReadingError(f"{path} must be a list of strings")
    for path in _DURATIONS:
        try:
            if (text := _at(found, path)) is not None:
                nanoseconds(text)
        except ConfigError:
            raise reading.ReadingError(f'{path} must be a duration, such as "10s"') from None
    for number, rule in enumerate(_at(found, "localityLbSetting.distribute") or []):
        shares = rule.get("to")
        if not isinstance(shares, dict) or not all(isinstance(share, int) for share in shares.values()):
            raise reading.ReadingError(
                f"localityLbSetting.distribute[{number}].to must give each locality a percentage"
            )
    return found


def _with_numbers(value: Any, name: str = "") -> Any:
    """Settings with numbers where they give strings: protobuf's JSON takes either, and Istio's pages do so."""
    if isinstance(value, dict):
        return {key: _with_numbers(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_numbers(one) for one in value]
    if name in _NUMBERS and isinstance(value, str):
        if value.isascii() and value.isdecimal():
            return int(value)
        # What is no number stays, and is refused where it is looked at.
        return number(value, math.nan) if math.isfinite(number(value, math.nan)) else value
    return value


def _at(found: Obj, path: str) -> Any:
    """What stands at "outer.inner"; None where there is nothing."""
    value: Any = found
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def mesh_settings(text: str) -> Obj:
    """Settings as YAML; none where they cannot be read (`mesh_problem` says why)."""
    try:
        return _read(text)
    except reading.ReadingError:
        return {}


def mesh_problem(config_map: Obj) -> str:
    """Why the mesh cannot be set as `config_map` says; "" where it can, or is about something else."""
    if not is_mesh(config_map):
        return ""
    try:
        _read((config_map.get("data") or {}).get("mesh", ""))
    except reading.ReadingError as error:
        return str(error)
    return ""


def is_mesh(config_map: View) -> bool:
    """Whether a ConfigMap holds the mesh's settings, as one of its revisions has them."""
    meta = config_map["metadata"]
    return (meta.get("namespace"), meta["name"]) == (_ROOT, called("istio", revision_of(config_map)))


def not_played(config_map: Obj, *, legacy: bool) -> list[str]:
    """What `config_map` sets for the mesh that changes nothing here; nothing where it is about something else.

    Args:
        config_map: The ConfigMap.
        legacy: Whether the release is Istio 1.2.
    """
    if not is_mesh(config_map):
        return []
    settings = mesh_settings((config_map.get("data") or {}).get("mesh", ""))
    quiet, fixed = _QUIET - (_TODAYS if legacy else _MIXERS), _FIXED[legacy]
    found = sorted(
        name
        for name, value in settings.items()
        if value not in (None, "", [], {}) and (name not in quiet or fixed.get(name, value) != value)
    )
    if (file := settings.get("accessLogFile")) and file not in OUTPUTS:
        found.append(f"accessLogFile: {file} (lines go to {OUTPUTS[0]}, which is what `kubectl logs` shows)")
    for part in _TLS:
        within = {} if part in found else settings.get(part) or {}
        found += [path for name in within if (path := f"{part}.{name}") not in _FORMS]
        # istiod would send them on, and proxies refuse all that reaches their pods.
        if strange := cipher_suites.unknown(within.get("cipherSuites") or []):
            found.append(f"{part}.cipherSuites: {', '.join(strange)} (which Envoy does not know)")
    found += settings_unplayed(settings.get("extensionProviders") or [])
    return [*found, *(f"defaultConfig.{name}" for name, _ in fields_unplayed(settings.get("defaultConfig") or {}))]


_SHARED = "in the sandbox proxies of all revisions of Istio have the settings of ConfigMap istio, where there is one"


def settings_warnings(config_map: Obj, *, legacy: bool) -> list[str]:
    """What whoever writes `config_map` is told of the mesh's settings in it."""
    if problem := mesh_problem(config_map):
        return [f"the mesh's settings cannot be read, and change nothing: {problem}"]
    found = [f"the mesh's setting {one} has no effect in the sandbox" for one in not_played(config_map, legacy=legacy)]
    return [_SHARED, *found] if is_mesh(config_map) and revision_of(config_map) != DEFAULT else found


def span_tags(tracing: Any) -> str:
    """What a proxy's settings add to each span, as JSON; "" where that is nothing."""
    found = tracing.get("customTags") or tracing.get("custom_tags") if isinstance(tracing, dict) else None
    tags = {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}
    return json.dumps(tags, sort_keys=True) if tags else ""


def number(text: Any, default: float) -> float:
    """A number in a variable or an annotation; `default` where it is none."""
    try:
        found = float(text)
    except (TypeError, ValueError):
        return default
    # YAML knows infinity, which is no setting of anything.
    return found if math.isfinite(found) else default
