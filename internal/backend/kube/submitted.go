package kube

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/bermhq/berm/internal/backend"
)

const (
	// withheld stands for what is the request's own.
	withheld = "(withheld)"
	// maxSubmitted bounds what is unpacked, in bytes.
	maxSubmitted = 1 << 20
)

// packSubmitted returns the pod as it may be shown, for its annotation. Values of the request's environment are not in it.
func packSubmitted(w *backend.Work, pod *corev1.Pod) (packed string, err error) {
	own := pod.DeepCopy()
	for i := range own.Spec.Containers {
		if c := &own.Spec.Containers[i]; c.Name == MainContainer {
			for j := range c.Env {
				if _, requested := w.Launch.GetEnvironmentVariables()[c.Env[j].Name]; requested {
					c.Env[j].Value = withheld
				}
			}
		}
	}
	shown, err := json.Marshal(bare(own))
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err = z.Write(shown); err == nil {
		err = z.Close()
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), err
}

// unpackers are what else each unpacking would make: ten times what comes out.
var unpackers sync.Pool //nolint:gochecknoglobals // a pool is for all

// unpackSubmitted reads the annotation; nil for none, or one that somebody changed.
func unpackSubmitted(packed string) json.RawMessage {
	raw, err := base64.StdEncoding.DecodeString(packed)
	if err != nil || packed == "" {
		return nil
	}
	z, _ := unpackers.Get().(*gzip.Reader)
	if z == nil {
		z = new(gzip.Reader)
	}
	defer unpackers.Put(z)
	if err := z.Reset(bytes.NewReader(raw)); err != nil {
		return nil
	}
	shown, err := io.ReadAll(io.LimitReader(z, maxSubmitted))
	if err != nil || !json.Valid(shown) {
		return nil
	}
	return shown
}

// submittedOf returns what was submitted of a sandbox, nil when that is not known.
func (b *Backend) submittedOf(id string) json.RawMessage {
	b.mu.Lock()
	s := b.sandboxes[id]
	b.mu.Unlock()
	if s == nil {
		return nil
	}
	s.mu.Lock()
	packed := s.packed
	s.mu.Unlock()
	return unpackSubmitted(packed)
}
