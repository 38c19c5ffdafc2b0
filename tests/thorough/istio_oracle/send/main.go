// SPDX-License-Identifier: Apache-2.0
// What Istio's own code would send to proxies, for one case a line:
// {"id": "", "config": "Istio's objects as YAML", "objects": "Kubernetes' objects as YAML", "meshConfig": "YAML",
//
//	"proxies": [{"type": "sidecar", "name": "pod", "namespace": "default", "ip": "10.0.0.1", "labels": {}, "serviceAccount": "", "node": {}}]}
//
// An answer has the id, an error, and each proxy's listeners, routes, clusters and endpoints as JSON of protobuf.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/test"
)

type proxySpec struct {
	Type, Name, Namespace, IP, ServiceAccount string
	Labels                                    map[string]string
	Region, Zone                              string
	Node                                      json.RawMessage
}

type oneCase struct {
	ID, Config, Objects, MeshConfig string
	Proxies                         []proxySpec
}

type oneProxy struct {
	Name                                   string
	Listeners, Routes, Clusters, Endpoints []json.RawMessage
}

type answer struct {
	ID      string     `json:"id"`
	Error   string     `json:"error,omitempty"`
	Proxies []oneProxy `json:"proxies"`
}

var shape = protojson.MarshalOptions{UseProtoNames: true}

func all[T proto.Message](list []T) []json.RawMessage {
	out := []json.RawMessage{}
	for _, m := range list {
		b, err := shape.Marshal(m)
		if err != nil {
			b, _ = json.Marshal(map[string]string{"error": err.Error()})
		}
		out = append(out, b)
	}
	return out
}

func ask(c oneCase) (a answer) {
	a.ID = c.ID
	defer func() {
		if r := recover(); r != nil {
			a.Error = fmt.Sprint("panic: ", r)
		}
	}()
	var m *meshconfig.MeshConfig = mesh.DefaultMeshConfig()
	if c.MeshConfig != "" {
		var err error
		if m, err = mesh.ApplyMeshConfig(c.MeshConfig, m); err != nil {
			a.Error = err.Error()
			return
		}
	}
	err := test.Wrap(func(t test.Failer) {
		defer func() {
			if r := recover(); r != nil {
				a.Error = fmt.Sprint("panic: ", r)
			}
		}()
		configs, _, err := crd.ParseInputs(c.Config)
		if err != nil {
			t.Fatalf("config: %v", err)
		}
		for i := range configs { // as the controller of a real cluster does: short names need the domain
			configs[i].Domain = "cluster.local"
			if configs[i].Namespace == "" {
				configs[i].Namespace = "default"
			}
			if configs[i].CreationTimestamp.IsZero() {
				configs[i].CreationTimestamp = time.Unix(int64(1700000000+i), 0)
			}
		}
		s := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{Configs: configs, KubernetesObjectString: c.Objects, MeshConfig: m, DisableSecretAuthorization: true})
		for _, p := range c.Proxies {
			meta := &model.NodeMetadata{
				Labels: p.Labels, Namespace: p.Namespace, ServiceAccount: p.ServiceAccount, ClusterID: "Kubernetes", IstioVersion: "1.30.3",
			}
			if len(p.Node) > 0 {
				if err := json.Unmarshal(p.Node, meta); err != nil {
					t.Fatalf("node: %v", err)
				}
			}
			proxy := s.SetupProxy(&model.Proxy{
				Type: model.NodeType(p.Type), ID: p.Name + "." + p.Namespace, ConfigNamespace: p.Namespace, IPAddresses: []string{p.IP},
				Labels: p.Labels, Metadata: meta, XdsNode: &core.Node{}, Locality: &core.Locality{Region: p.Region, Zone: p.Zone},
			})
			l := s.Listeners(proxy)
			a.Proxies = append(a.Proxies, oneProxy{p.Name, all(l), all(s.RoutesFromListeners(proxy, l)), all(s.Clusters(proxy)), all(s.Endpoints(proxy))})
		}
	})
	if err != nil {
		a.Error = err.Error()
	}
	return
}

func main() {
	o := log.DefaultOptions()
	o.OutputPaths = []string{"stderr"}
	_ = log.Configure(o)
	for _, s := range log.Scopes() {
		s.SetOutputLevel(log.ErrorLevel)
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<26)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var c oneCase
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = out.Encode(ask(c))
	}
}
