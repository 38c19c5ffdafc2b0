# SPDX-License-Identifier: Apache-2.0
"""OpenTelemetry's protocol, for all who take or send spans in it."""
