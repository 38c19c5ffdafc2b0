// SPDX-License-Identifier: Apache-2.0
// Istio's objects as JSON, one a line, to what Istio's own code of its validating webhook says of each: why it is refused, and what is warned of.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	multierror "github.com/hashicorp/go-multierror"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/resource"
	"istio.io/istio/pkg/config/validation"
	"istio.io/istio/pkg/log"
)

type verdict struct {
	Error    string   `json:"error"`
	Warnings []string `json:"warnings"`
}

func warnings(w validation.Warning) []string {
	if w == nil {
		return nil
	}
	if m, ok := w.(*multierror.Error); ok {
		out := []string{}
		for _, e := range m.Errors {
			out = append(out, e.Error())
		}
		return out
	}
	return []string{w.Error()}
}

func judge(raw []byte) (v verdict) {
	defer func() {
		if r := recover(); r != nil {
			v.Error = fmt.Sprint("panic: ", r)
		}
	}()
	var obj crd.IstioKind
	if err := json.Unmarshal(raw, &obj); err != nil {
		v.Error = fmt.Sprintf("cannot decode configuration: %v", err)
		return
	}
	gvk := obj.GroupVersionKind()
	s, ok := collections.Istio.FindByGroupKind(resource.FromKubernetesGVK(&gvk))
	if !ok {
		v.Error = "unrecognized type"
		return
	}
	out, err := crd.ConvertObject(s, &obj, "cluster.local")
	if err != nil {
		v.Error = fmt.Sprintf("error decoding configuration: %v", err)
		return
	}
	w, err := s.ValidateConfig(*out)
	if err != nil {
		v.Error = fmt.Sprintf("configuration is invalid: %v", err)
		return
	}
	v.Warnings = warnings(w)
	return
}

func main() {
	o := log.DefaultOptions()
	o.OutputPaths = []string{"stderr"}
	_ = log.Configure(o)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<26)
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	for in.Scan() {
		_ = out.Encode(judge(in.Bytes()))
	}
}
