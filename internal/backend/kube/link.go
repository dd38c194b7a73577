package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
	corev1 "k8s.io/api/core/v1"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/podwire"
	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// linkTimeout bounds the making of a link.
	linkTimeout = 20 * time.Second
	// maxWords is how much of what a failed connection says is kept, in bytes.
	maxWords = 1 << 10
)

// link is a connection to the init of a sandbox: streams over TLS over the API server's exec of a process in the container, which
// joins them with the init's socket. So nothing listens where another pod could reach it, it works where a pod's network is not its
// node's, and nobody on the way, the sandbox included, can do more than to cut it.
type link struct {
	session *yamux.Session
	client  *shim.Client
	way     *tunnel
}

// close ends the connection first: to end the session in order takes a while where nothing is read.
func (l *link) close() {
	_ = l.way.Close()
	_ = l.session.Close()
}

// connect makes a link to the init that a journal names.
func (b *Backend) connect(ctx context.Context, s *sandbox, j *podwire.Journal) (*link, error) {
	if !strings.HasPrefix(j.Socket, podwire.SocketPrefix) {
		return nil, fmt.Errorf("the init names no socket: %.64q", j.Socket)
	}
	config, err := podwire.ClientConfig(b.key, j.Key)
	if err != nil {
		return nil, err
	}
	req := b.cluster.core.Post().Namespace(s.namespace).Resource("pods").Name(s.name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: MainContainer, Command: []string{initProgram, "connect", j.Socket}, Stdin: true, Stdout: true, Stderr: true,
		}, b.cluster.codec)
	limit, stop := context.WithTimeout(ctx, linkTimeout)
	defer stop()
	words := &words{}
	way, err := b.cluster.dialTunnel(limit, req.URL(), words)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(way, config)
	err = secure.HandshakeContext(limit)
	var session *yamux.Session
	if err == nil {
		session, _, err = wire.Client(wire.Coalesce(secure))
	}
	if err != nil {
		_ = way.Close()
		return nil, words.explain(err)
	}
	l := &link{session: session, way: way}
	p := newPulse(session, l.close)
	l.client = shim.Over(func(context.Context) (net.Conn, error) {
		stream, err := p.begin()
		if err != nil {
			return nil, fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the connection to sandbox %s was cut", s.id).WithCause(err).WithRetry(retryAfter)
		}
		return stream, nil
	})
	return l, nil
}

// words keeps what a connection that failed had to say.
type words struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p[:min(len(p), max(maxWords-w.text.Len(), 0))])
	return len(p), nil
}

func (w *words) explain(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text := strings.TrimSpace(w.text.String()); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// readJournal reads what the init of a sandbox has written so far.
func (b *Backend) readJournal(ctx context.Context, s *sandbox) (*podwire.Journal, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := b.cluster.log(ctx, s.namespace, s.name, podwire.MaxJournal)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	j, err := podwire.ReadJournal(r)
	if err == nil && j.Key == nil {
		err = errNoJournal
	}
	return j, err
}

var errNoJournal = errors.New("the init has not written anything yet")
