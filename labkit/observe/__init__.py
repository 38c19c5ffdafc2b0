# SPDX-License-Identifier: Apache-2.0
"""What the mesh shows of itself: metrics, dashboards, traces and the graph, as tables and figures."""
