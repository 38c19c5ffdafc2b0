# SPDX-License-Identifier: Apache-2.0
"""Who may do what: Kubernetes' role-based access control.

    users       who asks: names and groups, and as whom else one may ask
    policy      roles and bindings, read at each question; the first rule that fits allows
    asked       what a request is about, and the words of a refusal
    escalation  nobody may grant what he may not do himself
    defaults    the roles that every cluster has

It knows objects by `contracts.Objects` only.
"""
