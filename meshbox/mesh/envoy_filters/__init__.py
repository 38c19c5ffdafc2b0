# SPDX-License-Identifier: Apache-2.0
"""EnvoyFilters: patches that users make to what their proxies are told."""

from meshbox.mesh.envoy_filters.patches import unplayed
from meshbox.mesh.envoy_filters.player import EnvoyFilters

__all__ = ["EnvoyFilters", "unplayed"]
