package scale

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/hashicorp/yamux"
	corev1 "k8s.io/api/core/v1"

	"github.com/bermhq/berm/internal/shim/podwire"
	"github.com/bermhq/berm/internal/shim/wire"
)

// inits answer as the init of every pod does whose main process runs, and prints nothing.
type inits struct {
	key      ed25519.PrivateKey
	upgrader websocket.Upgrader
	// configs are those of TLS, by the runner's key.
	mu      sync.Mutex
	configs map[string]*tls.Config
}

func newInits() *inits {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return &inits{
		key: key, configs: map[string]*tls.Config{},
		upgrader: websocket.Upgrader{Subprotocols: []string{"v5.channel.k8s.io"}, ReadBufferSize: 1 << 10, WriteBufferPool: &sync.Pool{}, WriteBufferSize: 4 << 10},
	}
}

// journal is what the init of a pod has printed.
func (n *inits) journal(pod *corev1.Pod) string {
	return podwire.Hello(n.key.Public().(ed25519.PublicKey), podwire.SocketPrefix+pod.Name) + podwire.Started(pod.CreationTimestamp.Time)
}

// config is that of the init of a pod, which serves the runner whose key its command names.
func (n *inits) config(pod *corev1.Pod) (*tls.Config, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == "main" })
	if at < 0 || len(pod.Spec.Containers[at].Command) == 0 {
		return nil, errors.New("the pod has no init")
	}
	text := pod.Spec.Containers[at].Command[len(pod.Spec.Containers[at].Command)-1]
	if c := n.configs[text]; c != nil {
		return c, nil
	}
	runner, err := podwire.ParseKey(text)
	if err != nil {
		return nil, err
	}
	c, err := podwire.ServerConfig(n.key, runner)
	n.configs[text] = c
	return c, err
}

// connect joins a WebSocket of the API server's exec with the init of a pod.
func (n *inits) connect(w http.ResponseWriter, r *http.Request, pod *corev1.Pod) {
	config, err := n.config(pod)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	ws, err := n.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer ws.Close()
	session, err := yamux.Server(tls.Server(&streams{ws: ws}, config), wire.MuxConfig())
	if err != nil {
		return
	}
	defer session.Close()
	for {
		stream, err := session.Accept()
		if err != nil {
			return
		}
		go answer(stream)
	}
}

// answer serves a request: output never comes, and nothing else is known.
func answer(stream net.Conn) {
	defer stream.Close()
	f, err := wire.NewReader(stream).Read()
	if err != nil {
		return
	}
	var req wire.Request
	if f.Decode(&req) != nil {
		return
	}
	if req.Op != wire.OpOutput {
		_ = wire.WriteJSON(stream, wire.TypeError, wire.Errorf(wire.CodeInvalid, "nothing is known of it here"))
		return
	}
	_ = wire.WriteJSON(stream, wire.TypeOK, wire.OutputInfo{})
	_, _ = io.Copy(io.Discard, stream) // until it is closed
}

// streams is the standard input and output of a command, as bytes.
type streams struct {
	ws   *websocket.Conn
	in   io.Reader
	lock sync.Mutex
}

// Channels of a WebSocket of exec.
const (
	channelStdin, channelStdout = 0, 1
)

func (s *streams) Read(p []byte) (int, error) {
	for {
		if s.in != nil {
			n, err := s.in.Read(p)
			if errors.Is(err, io.EOF) {
				s.in, err = nil, nil
			}
			if n > 0 || err != nil {
				return n, err
			}
			continue
		}
		_, r, err := s.ws.NextReader()
		if err != nil {
			return 0, err
		}
		var channel [1]byte
		if _, err := io.ReadFull(r, channel[:]); err != nil {
			return 0, err
		}
		if channel[0] == channelStdin {
			s.in = r
		}
	}
}

func (s *streams) Write(p []byte) (int, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	return len(p), s.ws.WriteMessage(websocket.BinaryMessage, append([]byte{channelStdout}, p...))
}

func (s *streams) Close() error                     { return s.ws.Close() }
func (s *streams) LocalAddr() net.Addr              { return s.ws.LocalAddr() }
func (s *streams) RemoteAddr() net.Addr             { return s.ws.RemoteAddr() }
func (s *streams) SetDeadline(time.Time) error      { return nil }
func (s *streams) SetReadDeadline(time.Time) error  { return nil }
func (s *streams) SetWriteDeadline(time.Time) error { return nil }
