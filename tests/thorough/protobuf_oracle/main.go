// SPDX-License-Identifier: Apache-2.0
// Objects as JSON, one a line, to what Kubernetes' own code makes of them: protobuf, and JSON read back from it.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	autoscaling "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	certificates "k8s.io/api/certificates/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	events "k8s.io/api/events/v1"
	networking "k8s.io/api/networking/v1"
	node "k8s.io/api/node/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	scheduling "k8s.io/api/scheduling/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionregistration.AddToScheme, apps.AddToScheme, authentication.AddToScheme, authorization.AddToScheme,
		autoscaling.AddToScheme, autoscalingv2.AddToScheme, batch.AddToScheme, certificates.AddToScheme,
		coordination.AddToScheme, core.AddToScheme, discovery.AddToScheme, events.AddToScheme, networking.AddToScheme,
		node.AddToScheme, policy.AddToScheme, rbac.AddToScheme, scheduling.AddToScheme, storage.AddToScheme,
	} {
		must(add(scheme))
	}
	serializer := protobuf.NewSerializer(scheme, scheme)
	input := bufio.NewReader(os.Stdin)
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			return
		}
		var named struct{ APIVersion, Kind string }
		must(json.Unmarshal(line, &named))
		kind := schema.FromAPIVersionAndKind(named.APIVersion, named.Kind)
		object, err := scheme.New(kind)
		must(err)
		must(json.Unmarshal(line, object))
		object.GetObjectKind().SetGroupVersionKind(kind)
		var written bytes.Buffer
		must(serializer.Encode(object, &written))
		read, err := scheme.New(kind)
		must(err)
		_, _, err = serializer.Decode(written.Bytes(), nil, read)
		must(err)
		read.GetObjectKind().SetGroupVersionKind(kind)
		text, err := json.Marshal(read)
		must(err)
		fmt.Println(base64.StdEncoding.EncodeToString(written.Bytes()) + " " + string(text))
	}
}
