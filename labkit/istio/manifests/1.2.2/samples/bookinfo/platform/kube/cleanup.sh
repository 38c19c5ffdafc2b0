#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Removes BookInfo and every routing rule beside it.
#
# The namespace is NAMESPACE where that is set, else it is asked for; an empty answer means "default".
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [ -z "${NAMESPACE:-}" ]; then
  # At the end of input there is nobody to ask.
  read -r -p "namespace? [default] " NAMESPACE || echo
fi
NAMESPACE=${NAMESPACE:-default}
echo "cleaning up namespace ${NAMESPACE}"

for kind in destinationrules virtualservices gateways; do
  for name in $(kubectl get -n "$NAMESPACE" "$kind" -o name); do
    kubectl delete -n "$NAMESPACE" "$name"
  done
done

kubectl delete -n "$NAMESPACE" --ignore-not-found=true -f "$here/bookinfo.yaml"
