# SPDX-License-Identifier: Apache-2.0
"""What labkit, the sandbox and the figures stand on: errors, settings, and one meaning for each fact.

Nothing here knows Istio's course or the sandbox, and nothing but the standard library and PyYAML is needed.
"""
