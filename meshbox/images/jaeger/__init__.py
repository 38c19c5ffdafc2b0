# SPDX-License-Identifier: Apache-2.0
"""The stand-in for Jaeger: a Zipkin collector, Jaeger's query API and a plain page to look at traces."""
