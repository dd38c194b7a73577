package kms_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	kmsv2 "k8s.io/kms/apis/v2"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/keyring"
	"github.com/bermhq/berm/internal/keyring/kms"
)

// plugin is a key plug-in as Kubernetes knows them, with a key that is no key: what it encrypts it turns around.
type plugin struct {
	kmsv2.UnsafeKeyManagementServiceServer
	mu       sync.Mutex
	id       string
	sick     error
	decrypts int
}

func (p *plugin) Status(context.Context, *kmsv2.StatusRequest) (*kmsv2.StatusResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	health := "ok"
	if p.sick != nil {
		health = p.sick.Error()
	}
	return &kmsv2.StatusResponse{Version: "v2", Healthz: health, KeyId: p.id}, nil
}

func (p *plugin) Encrypt(_ context.Context, r *kmsv2.EncryptRequest) (*kmsv2.EncryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &kmsv2.EncryptResponse{Ciphertext: turned(r.GetPlaintext()), KeyId: p.id, Annotations: map[string][]byte{"by.example": []byte(p.id)}}, p.sick
}

func (p *plugin) Decrypt(_ context.Context, r *kmsv2.DecryptRequest) (*kmsv2.DecryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decrypts++
	if string(r.GetAnnotations()["by.example"]) != r.GetKeyId() {
		return nil, errors.New("annotations of another key")
	}
	return &kmsv2.DecryptResponse{Plaintext: turned(r.GetCiphertext())}, p.sick
}

func (p *plugin) set(id string, sick error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.id, p.sick = id, sick
}

func turned(b []byte) []byte {
	out := bytes.Clone(b)
	for i := range out {
		out[i] ^= 0xff
	}
	return out
}

func serve(t *testing.T) (*plugin, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "kms.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	p := &plugin{id: "one"}
	s := grpc.NewServer()
	kmsv2.RegisterKeyManagementServiceServer(s, p)
	go func() { _ = s.Serve(listener) }()
	t.Cleanup(s.Stop)
	return p, socket
}

func dial(t *testing.T, socket string) *kms.KMS {
	t.Helper()
	k, err := kms.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func TestPlugin(t *testing.T) {
	p, socket := serve(t)
	k := dial(t, "unix://"+socket)
	if id, err := k.Current(t.Context()); err != nil || id != "kms:one" {
		t.Fatalf("current key %q, %v", id, err)
	}
	key := keyring.NewKey()
	w, err := k.Wrap(t.Context(), key)
	if err != nil || w.KeyID != "kms:one" {
		t.Fatalf("wrapped by %q, %v", w.KeyID, err)
	}
	p.set("two", nil)
	other := dial(t, socket) // which has nothing in memory
	for range 3 {
		if got, err := other.Unwrap(t.Context(), w); err != nil || !bytes.Equal(got, key) {
			t.Fatalf("unwrapped by another server: %v", err)
		}
	}
	if p.decrypts != 2 {
		t.Errorf("the plug-in was asked %d times, want once by each", p.decrypts)
	}
	if lacks := k.Lacks([]string{"kms:one", "file:x"}); strings.Join(lacks, " ") != "file:x" {
		t.Errorf("lacks %v", lacks)
	}
	if _, err := k.Unwrap(t.Context(), keyring.Wrapped{KeyID: "file:x"}); !fault.HasReason(err, keyring.ReasonKeyMissing) {
		t.Errorf("a key of a file: %v", err)
	}
}

// TestPluginThatFails: what cannot be told is Unavailable, so that nobody takes a secret for lost.
func TestPluginThatFails(t *testing.T) {
	p, socket := serve(t)
	k := dial(t, socket)
	w, err := k.Wrap(t.Context(), keyring.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	p.set("one", errors.New("the module is locked"))
	fresh := dial(t, socket)
	_, statusErr := fresh.Current(t.Context())
	_, wrapErr := fresh.Wrap(t.Context(), keyring.NewKey())
	_, unwrapErr := fresh.Unwrap(t.Context(), w)
	for what, err := range map[string]error{"status": statusErr, "wrap": wrapErr, "unwrap": unwrapErr} {
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "the module is locked") {
			t.Errorf("%s: %v", what, err)
		}
	}
	none := dial(t, filepath.Join(t.TempDir(), "none.sock"))
	if _, err := none.Current(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("no plug-in: %v", err)
	}
	if _, err := kms.Dial("relative.sock"); !fault.Is(err, fault.Invalid) {
		t.Errorf("a relative path: %v", err)
	}
}
