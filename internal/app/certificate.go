package app

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
)

// certificateCheck is how often the files of the certificate are looked at, at most: whoever renews it need not restart the server.
const certificateCheck = 10 * time.Second

// certificate is the server's own. It is read again when its files have changed.
type certificate struct {
	certFile, keyFile string
	every             time.Duration
	log               *slog.Logger

	mu        sync.Mutex
	current   *tls.Certificate
	cert, key []byte
	next      time.Time
}

// loadCertificate reads the certificate, which must be good at the start.
func loadCertificate(certFile, keyFile string, every time.Duration, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, every: every, log: log}
	if _, err := c.read(); err != nil {
		return nil, fault.Invalidf("TLS", "cannot use the certificate %s with the key %s: %v", certFile, keyFile, err)
	}
	c.next = time.Now().Add(every)
	return c, nil
}

// read takes what is in the files, if it is another than the one before and the two belong together.
func (c *certificate) read() (changed bool, err error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return false, err
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil || bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return false, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, err
	}
	c.current, c.cert, c.key = &pair, cert, key
	return true, nil
}

// get is for tls.Config. While the files hold nothing good, as between the writes of the one and the other, the one before stays.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); !now.Before(c.next) {
		c.next = now.Add(c.every)
		switch changed, err := c.read(); {
		case err != nil:
			c.log.Warn("the certificate cannot be read again; the one before is used", "certificate", c.certFile, "error", err)
		case changed:
			c.log.Info("the certificate was renewed", "certificate", c.certFile, "until", c.current.Leaf.NotAfter)
		}
	}
	return c.current, nil
}
