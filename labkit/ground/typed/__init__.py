# SPDX-License-Identifier: Apache-2.0
"""The objects that several packages read, as types: what mypy knows of their fields; nothing imports them to run.

Istio's are here, since the mesh, `istio.analyze` and Kiali's checks read them by `labkit.ground.routing`; those that
only the sandbox reads are in `meshbox/typed`. An object is a dict still, and each field may be missing. Written by
`tools/generate_typed_kinds.py` and `tools/generate_typed_istio.py`.
"""

from __future__ import annotations
