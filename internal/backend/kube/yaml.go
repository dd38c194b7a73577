package kube

import (
	"bytes"
	"encoding/json"

	"sigs.k8s.io/yaml"
)

// YAML returns the objects as a stream of documents that `kubectl apply -f -` takes, in the order of creation.
func (o *Objects) YAML() ([]byte, error) {
	var out bytes.Buffer
	if o.Namespace != nil {
		if err := document(&out, o.Namespace); err != nil {
			return nil, err
		}
	}
	if o.Quota != nil {
		if err := document(&out, o.Quota); err != nil {
			return nil, err
		}
	}
	for _, x := range o.beside() {
		if err := document(&out, x.object); err != nil {
			return nil, err
		}
	}
	if err := document(&out, o.Pod); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// document appends one object, without the status that only a cluster can know.
func document(out *bytes.Buffer, object any) error {
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	delete(fields, "status")
	if text, err = json.Marshal(fields); err != nil {
		return err
	}
	if text, err = yaml.JSONToYAML(text); err != nil {
		return err
	}
	if out.Len() > 0 {
		out.WriteString("---\n")
	}
	out.Write(text)
	return nil
}
