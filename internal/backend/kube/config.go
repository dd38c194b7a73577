package kube

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/bermhq/berm/internal/core/fault"
)

// Config says which cluster a backend runs sandboxes on, and how.
type Config struct {
	// Dir keeps the runner's key and the output of main processes. Made with mode 0700 when missing.
	Dir string
	// RunnerName is the runner's: its pods are found again by it.
	RunnerName string
	// Kubeconfig is a file, Context a context in it; "" are the usual ones, and inside of a pod its own account.
	Kubeconfig, Context string
	// ClusterUID, when not empty, is what ClusterUID returned for the cluster that this runner is of; on another nothing is done.
	ClusterUID string
	// Options are the conventions of the cluster. InitImage must be set; RunnerKey is the backend's.
	Options Options
	// ScheduleTimeout is how long a sandbox may wait for a node, StuckTimeout how long for what its node makes of it; 0 are the defaults.
	ScheduleTimeout, StuckTimeout time.Duration
	// OutputLimit is how much output is kept of each main process, OutputRetention how long after its end; 0 are the defaults.
	OutputLimit     int64
	OutputRetention time.Duration
	Logger          *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// untried leaves out the trial of networks: it is of the trial itself.
	untried bool
}

const (
	// DefaultOutputRetention holds when nothing else is said.
	DefaultOutputRetention = 24 * time.Hour
	// clientQPS and clientBurst bound requests to the API server, which has fairness of its own.
	clientQPS, clientBurst = 200, 400
	// keyName is the file of the runner's key.
	keyName = "runner.key"
	keyType = "BERM RUNNER KEY"
)

func (c *Config) patience() patience {
	p := patience{schedule: c.ScheduleTimeout, stuck: c.StuckTimeout}
	if c.Options.InitFrom == InitFromImage {
		p.mounted = c.Options.InitImage
	}
	return p
}

// restConfig finds the cluster.
func (c *Config) restConfig() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.Context}).ClientConfig()
	if err != nil {
		return nil, fault.Invalidf("USAGE", "runner %s has no cluster: %v", c.RunnerName, err).WithHint("name a file, and a context in it: --kube NAME=FILE#CONTEXT of a server, --kubeconfig FILE#CONTEXT of a runner")
	}
	cfg.QPS, cfg.Burst = clientQPS, clientBurst
	cfg.UserAgent = "berm"
	direct(cfg)
	return cfg, nil
}

// direct has a pod reach the API server of its cluster without the proxy of its environment: that is for what is outside, and may be given by
// a gateway, who could else cut a runner off from its cluster, and from its own deployment with the way back.
func direct(cfg *rest.Config) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || cfg.Host != "https://"+net.JoinHostPort(host, port) || cfg.Proxy != nil {
		return
	}
	if os.Getenv("HTTPS_PROXY") == "" && os.Getenv("https_proxy") == "" {
		return // The clients of one configuration share their connections as long as it names no function.
	}
	cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil } //nolint:nilnil // none
}

func unusable(runner string, err error) error {
	return fault.Invalidf("USAGE", "the kubeconfig of runner %s cannot be used: %v", runner, err)
}

// ensureKey returns the runner's key, which it makes once. Sandboxes serve who has it: without it they can be ended, and no more.
func ensureKey(dir string) (ed25519.PrivateKey, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Invalidf("DATA_DIR", "cannot make %s: %v", dir, err)
	}
	path := filepath.Join(dir, keyName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		seed := make([]byte, ed25519.SeedSize)
		if _, err := rand.Read(seed); err != nil {
			return nil, err
		}
		data = pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: seed})
		err = writeOnce(path, data)
	}
	if err != nil {
		return nil, fault.Internalf(err, "the runner's key %s", path)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != keyType || len(block.Bytes) != ed25519.SeedSize {
		return nil, fault.Invalidf("DATA_DIR", "%s is no key of a runner", path).
			WithHint("put back the one that was there: without it, sandboxes that run cannot be reached")
	}
	return ed25519.NewKeyFromSeed(block.Bytes), nil
}

// writeOnce writes a file, flushed, and gives it its name last.
func writeOnce(path string, data []byte) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
