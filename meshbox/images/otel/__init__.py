# SPDX-License-Identifier: Apache-2.0
"""The OpenTelemetry collector, as far as spans go. Its configuration is read here, as a pod's Python knows no YAML."""

from __future__ import annotations

import argparse
import json
from typing import Any

from labkit.ground import reading
from meshbox.images.context import ContainerContext, Image, Launch

__all__ = ["IMAGES"]

_DEFAULT = "/etc/otelcol/config.yaml"
_ITS_OWN = {
    "receivers": {
        "otlp": {"protocols": {"grpc": {"endpoint": "0.0.0.0:4317"}, "http": {"endpoint": "0.0.0.0:4318"}}},
        "zipkin": {"endpoint": "0.0.0.0:9411"},
    },
    "processors": {"batch": None},
    "exporters": {"debug": {"verbosity": "detailed"}},
    "extensions": {"health_check": {"endpoint": "0.0.0.0:13133"}},
    "service": {
        "extensions": ["health_check"],
        "pipelines": {"traces": {"receivers": ["otlp", "zipkin"], "processors": ["batch"], "exporters": ["debug"]}},
    },
}
"""As far as it is about spans, what the image has at `_DEFAULT`."""


def _merged(first: Any, then: Any) -> Any:
    if isinstance(first, dict) and isinstance(then, dict):
        return {**first, **{key: _merged(first.get(key), value) for key, value in then.items()}}
    return then


def _read(context: ContainerContext) -> dict[str, Any]:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config", action="append")
    files = parser.parse_known_args([word for word in context.argv[1:] if word != "validate"])[0].config
    found: Any = {}
    for name in files or ():
        file = context.path(name.removeprefix("file:"))
        if name == _DEFAULT and not file.exists():
            found = _merged(found, _ITS_OWN)
            continue
        try:
            found = _merged(found, reading.yaml_value(file.read_bytes()))
        except OSError as error:
            words = f"unable to read the file file:{name}: open {name}: {str(error.strerror).lower()}"
            return {"problem": f"failed to get config: cannot resolve the configuration: {words}"}
        except reading.ReadingError as error:
            return {"problem": f"failed to get config: cannot resolve the configuration: yaml: {error}"}
    if not files:
        return {"problem": "at least one config flag must be provided"}
    return {"config": found, "tag": context.image.tag}


def _collector(context: ContainerContext) -> Launch:
    return Launch(
        entry="meshbox.images.otel.collector:main", argv=context.argv, env={"LABKIT_OTEL": json.dumps(_read(context))}
    )


IMAGES = (
    Image(
        repositories=(
            *("otel/opentelemetry-collector", "otel/opentelemetry-collector-contrib"),
            *("open-telemetry/opentelemetry-collector-releases/opentelemetry-collector",),
            *("open-telemetry/opentelemetry-collector-releases/opentelemetry-collector-contrib",),
        ),
        entrypoint=("/otelcol",),
        cmd=("--config", _DEFAULT),
        programs=dict.fromkeys(("otelcol", "otelcol-contrib"), _collector),
        modules=("meshbox.images.otel.collector",),
        size=150_000_000,
        stands_in="takes spans (OTLP, Zipkin), and prints or passes them on as its configuration says; spans only",
    ),
)
