# SPDX-License-Identifier: Apache-2.0
"""Where a request was meant to go that came to the HTTP proxy port: nobody captured an address, so routes say it."""

from __future__ import annotations

from meshbox.mesh.envoy import Json, extension, typed

__all__ = ["WHERE", "meant"]

_NAME = "istio.original_dst"
_KIND = "envoy.extensions.filters.http.set_filter_state.v3.Config"

WHERE = extension(_NAME, _KIND)
"""The filter that takes an address from a route; clusters of the type ORIGINAL_DST then go there."""


def meant(where: str) -> Json:
    """A route's configuration of that filter: the address, "ip:port"."""
    told = {
        "object_key": "envoy.network.transport_socket.original_dst_address",
        "format_string": {"text_format_source": {"inline_string": where}},
    }
    return {_NAME: typed(_KIND, on_request_headers=[told])}
