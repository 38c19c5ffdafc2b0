# SPDX-License-Identifier: Apache-2.0
"""Which small faults no test notices; `python -m tools.mutants` says how it is asked."""
