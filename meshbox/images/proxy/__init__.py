# SPDX-License-Identifier: Apache-2.0
"""What Istio's proxy image runs as: a real Envoy, and the small commands of pilot-agent."""
