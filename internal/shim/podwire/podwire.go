// Package podwire is what an init in a pod and its runner say to each other beside package wire: how they know each other, and the
// journal that the init prints.
//
// # Who is who
//
// The pod names the runner's public key. The init makes a key of its own and prints the public half before anything else runs in
// its container. Connections are TLS 1.3 in which each side shows its key; there are no authorities and no names. So the way
// between them (the API server's exec, a process in the container) can cut the connection, and nothing more.
//
// # The journal
//
// It is the standard output of process 1, which nothing else in the container can open, and which the node keeps outside of it.
// Each line is a word, and JSON:
//
//	berm-init {"version":1,"key":…,"socket":…}   first
//	started {"at":…}                             the main process runs
//	failed {"code":…,"message":…}                or could not be started; nothing follows
//	stopping {"at":…,"why":…}                    somebody asked it to end
//	ended {"at":…,"exit":…,"output_bytes":…}     it did; without exit where there is no main process
package podwire

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/bermhq/berm/internal/shim/cgroup"
	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// Version of the journal.
	Version = 1
	// SocketPrefix begins the names of sockets. They are of the abstract kind: they need no place in a file system.
	SocketPrefix = "@berm-"
	// MaxJournal is the most bytes of a journal that are looked at.
	MaxJournal = 64 << 10
	// maxTextInJournal bounds what a line says in words.
	maxTextInJournal = 4 << 10
)

// Stats is the answer to wire.OpStats.
type Stats struct {
	cgroup.Stats
	OutputBytes int64 `json:"output_bytes"`
}

// EncodeKey writes a public key as a pod names it.
func EncodeKey(k ed25519.PublicKey) string { return base64.RawURLEncoding.EncodeToString(k) }

// ParseKey reads what EncodeKey wrote.
func ParseKey(s string) (ed25519.PublicKey, error) {
	k, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(k) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%.64q is no public key", s)
	}
	return k, nil
}

// ServerConfig is that of an init with a key, which serves the runner alone.
func ServerConfig(own ed25519.PrivateKey, runner ed25519.PublicKey) (*tls.Config, error) {
	c, err := config(own, runner)
	if err == nil {
		c.ClientAuth = tls.RequireAnyClientCert
		c.SessionTicketsDisabled = true
	}
	return c, err
}

// ClientConfig is that of the runner, which speaks to one init alone.
func ClientConfig(own ed25519.PrivateKey, init ed25519.PublicKey) (*tls.Config, error) {
	c, err := config(own, init)
	if err == nil {
		c.InsecureSkipVerify = true //nolint:gosec // VerifyConnection compares the key itself
	}
	return c, err
}

var errStranger = errors.New("the other side has another key")

func config(own ed25519.PrivateKey, peer ed25519.PublicKey) (*tls.Config, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, own.Public(), own)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: own}},
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errStranger
			}
			k, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
			if !ok || !k.Equal(crypto.PublicKey(peer)) {
				return errStranger
			}
			return nil
		},
	}, nil
}

type hello struct {
	Version int    `json:"version"`
	Key     string `json:"key"`
	Socket  string `json:"socket"`
}

type moment struct {
	At  time.Time `json:"at"`
	Why string    `json:"why,omitempty"`
}

// End is how a sandbox ended: a line of the journal, and the last frame of its output. Exit is nil where there was no main process.
type End struct {
	At          time.Time  `json:"at"`
	Exit        *wire.Exit `json:"exit,omitempty"`
	OutputBytes int64      `json:"output_bytes"`
}

func line(word string, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return word + " " + string(b) + "\n"
}

// Hello is the first line of a journal.
func Hello(key ed25519.PublicKey, socket string) string {
	return line("berm-init", hello{Version, EncodeKey(key), socket})
}

// Started says that the main process runs.
func Started(at time.Time) string { return line("started", moment{At: at}) }

// Stopping says that somebody asked the sandbox to end.
func Stopping(at time.Time, why string) string {
	return line("stopping", moment{At: at, Why: why[:min(len(why), maxTextInJournal)]})
}

// Failed says why the main process could not be started.
func Failed(e *wire.Error) string {
	e.Message = e.Message[:min(len(e.Message), maxTextInJournal)]
	return line("failed", e)
}

// Ended says how the main process ended, and how much it had printed.
func Ended(e End) string { return line("ended", e) }

// Journal is what an init has printed so far.
type Journal struct {
	Key    ed25519.PublicKey
	Socket string
	// StartedAt and StoppingAt are zero until then; Why is why it is stopping.
	StartedAt, StoppingAt time.Time
	Why                   string
	// Failed is why it could not start.
	Failed *wire.Error
	// End is nil until then.
	End *End
}

// ReadJournal reads a journal, up to a line that is not whole. What is none is an error.
func ReadJournal(r io.Reader) (*Journal, error) {
	in := bufio.NewReader(io.LimitReader(r, MaxJournal))
	j := &Journal{}
	for {
		text, err := in.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				return j, nil
			}
			return nil, err
		}
		if err := j.add(bytes.TrimSuffix(text, []byte("\n"))); err != nil {
			return nil, err
		}
	}
}

func (j *Journal) add(text []byte) error {
	word, value, _ := bytes.Cut(text, []byte(" "))
	if j.Key == nil && string(word) != "berm-init" {
		return fmt.Errorf("%.128q is no journal of an init", text)
	}
	var err error
	switch string(word) {
	case "berm-init":
		var h hello
		if err = json.Unmarshal(value, &h); err == nil && h.Version != Version {
			err = fmt.Errorf("version %d of the journal, want %d", h.Version, Version)
		}
		if err == nil {
			j.Socket = h.Socket
			j.Key, err = ParseKey(h.Key)
		}
	case "started":
		var m moment
		err = json.Unmarshal(value, &m)
		j.StartedAt = m.At
	case "stopping":
		var m moment
		err = json.Unmarshal(value, &m)
		j.StoppingAt, j.Why = m.At, m.Why
	case "failed":
		j.Failed = &wire.Error{}
		err = json.Unmarshal(value, j.Failed)
	case "ended":
		j.End = &End{}
		err = json.Unmarshal(value, j.End)
	}
	return err
}
