# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes Gateway API, played by turning its objects into Istio's own Gateways and VirtualServices."""
