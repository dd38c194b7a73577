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
	z, _ := packers.Get().(*gzip.Writer)
	if z == nil {
		z = new(gzip.Writer)
	}
	defer packers.Put(z)
	z.Reset(&b)
	if _, err = z.Write(shown); err == nil {
		err = z.Close()
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), err
}

// packers and unpackers are what else each packing would make, nearly a megabyte, and each unpacking, ten times what comes out.
var packers, unpackers sync.Pool //nolint:gochecknoglobals // pools are for all

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
	shown := bytes.NewBuffer(make([]byte, 0, 2*len(packed))) // It is seldom more.
	if _, err := shown.ReadFrom(io.LimitReader(z, maxSubmitted)); err != nil || !json.Valid(shown.Bytes()) {
		return nil
	}
	return shown.Bytes()
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
	defer s.mu.Unlock()
	return s.submitted.object()
}
