# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/benchmarks.md, each measured beside its floor in the same run."""
