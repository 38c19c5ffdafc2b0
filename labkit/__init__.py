# SPDX-License-Identifier: Apache-2.0
"""labkit: the helper of the Istio workshop's notebooks, with a sandbox for machines that have no cluster.

A notebook imports the parts it uses: `cluster` (kubectl, shown), `istio` (releases, installing, the way in), `bookinfo`
(the sample application), `observe` (metrics and traces), `course` (lessons and their checks) and `ui` (what is live).
Importing this package alone costs nothing: the sandbox's own processes do it as well.
"""

__version__ = "0.2.0"
