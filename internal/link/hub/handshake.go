package hub

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link"
)

const (
	// maxBody is the largest body of an enrolment, in bytes, maxInstance the longest name of a process.
	maxBody     = 4 << 10
	maxInstance = 64
	// answerTimeout is how long the answer to an upgrade may take to be taken.
	answerTimeout = 10 * time.Second
)

func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// secretOf returns the bearer token of a request.
func secretOf(r *http.Request) (string, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" || len(r.Header.Values("Authorization")) > 1 {
		return "", fault.New(fault.Unauthenticated, fault.ReasonTokenInvalid, "the request has no bearer token").
			WithHint("berm runner join NAME prints the command that a runner is started with")
	}
	return token, nil
}

// enrol exchanges an enrolment token.
func (h *Hub) enrol(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		return fault.New(fault.Unimplemented, fault.ReasonNotImplemented, "%.20s is not served at %s", r.Method, link.EnrolPath)
	}
	secret, err := secretOf(r)
	if err != nil {
		return err
	}
	var in link.EnrolRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
		return fault.Invalidf(fault.ReasonSyntax, "the body is not what a runner sends: %v", err)
	}
	theirs, err := link.ParseRange(in.Versions)
	if err != nil {
		return err
	}
	if _, err := link.Negotiate(h.cfg.Versions, theirs); err != nil { // before the token is spent
		return err
	}
	cred, err := h.cfg.Control.EnrolRunner(r.Context(), secret, in.Identity)
	if err != nil {
		return err
	}
	h.cfg.Logger.InfoContext(r.Context(), "a runner was enrolled", "runner", cred.RunnerID, "identity", cred.Identity, "peer", r.RemoteAddr)
	raw, err := json.Marshal(link.EnrolResponse{RunnerID: cred.RunnerID, RunnerUUID: cred.RunnerUUID, Secret: cred.Secret, ExpiresAt: cred.ExpiresAt})
	if err != nil {
		return fault.Internalf(err, "write the credential")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(raw)
	return nil
}

// connect turns the roles of a connection around.
func (h *Hub) connect(w http.ResponseWriter, r *http.Request) error {
	secret, err := secretOf(r)
	if err != nil {
		return err
	}
	if r.Method != http.MethodGet || r.ProtoMajor != 1 || !strings.EqualFold(r.Header.Get("Upgrade"), link.Protocol) {
		return fault.Invalidf(fault.ReasonInvalidRequest, "a line is opened by GET over HTTP/1.1 with Upgrade: %s", link.Protocol).
			WithHint("a proxy between runner and gateway must let upgrades through, as for WebSocket")
	}
	theirs, err := link.ParseRange(r.Header.Get(link.HeaderVersions))
	if err != nil {
		return err
	}
	version, err := link.Negotiate(h.cfg.Versions, theirs)
	if err != nil {
		return err
	}
	instance := r.Header.Get(link.HeaderInstance)
	if instance == "" || len(instance) > maxInstance {
		return fault.Invalidf(fault.ReasonInvalidRequest, "the process has no name").WithField(link.HeaderInstance, "must have 1 to %d bytes", maxInstance)
	}
	cred, err := h.cfg.Control.AuthenticateRunner(r.Context(), secret, r.Header.Get(link.HeaderIdentity))
	if err != nil {
		return err
	}
	switch kind := r.Header.Get(link.HeaderKind); kind {
	case link.KindControl:
		return h.first(w, r, cred, instance, version)
	case link.KindBulk:
		return h.second(w, r, cred, instance, version)
	default:
		return fault.Invalidf(fault.ReasonInvalidRequest, "%.20q is no kind of connection", kind)
	}
}

// first begins a session with its control connection.
func (h *Hub) first(w http.ResponseWriter, r *http.Request, cred *control.RunnerCredential, instance string, version int) error {
	s := newSession(h, cred, instance, r.RemoteAddr)
	s.software = r.Header.Get(link.HeaderSoftware)
	if err := h.claim(r.Context(), s); err != nil {
		return err
	}
	err := h.hold(r.Context(), s)
	var conn net.Conn
	if err == nil {
		conn, err = upgrade(w, version, s.id)
	}
	if err != nil {
		h.leave(s)
		return err
	}
	go s.run(conn)
	return nil
}

// second adds the bulk connection.
func (h *Hub) second(w http.ResponseWriter, r *http.Request, cred *control.RunnerCredential, instance string, version int) error {
	s, err := h.find(r.Header.Get(link.HeaderSession), cred)
	if err != nil {
		return err
	}
	if s.instance != instance || !s.paired.CompareAndSwap(false, true) {
		return fault.Preconditionf(fault.ReasonInvalidRequest, "the session has both its connections")
	}
	conn, err := upgrade(w, version, s.id)
	if err != nil {
		s.bulk <- nil
		return err
	}
	s.bulk <- conn
	return nil
}

// upgrade answers with 101 and takes the connection over.
func upgrade(w http.ResponseWriter, version int, session string) (net.Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fault.Internalf(err, "take a connection over")
	}
	_ = conn.SetDeadline(time.Now().Add(answerTimeout))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %d\r\n%s: %s\r\n\r\n",
		link.Protocol, link.HeaderVersion, version, link.HeaderSession, session)
	if err != nil {
		_ = conn.Close()
		return nil, fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the runner went away").WithCause(err)
	}
	_ = conn.SetDeadline(time.Time{})
	return &readAhead{Conn: conn, r: buffered.Reader}, nil
}

// readAhead is a connection of which some was read already.
type readAhead struct {
	net.Conn
	r *bufio.Reader
}

func (c *readAhead) Read(p []byte) (int, error) {
	if c.r.Buffered() > 0 {
		return c.r.Read(p)
	}
	return c.Conn.Read(p)
}
