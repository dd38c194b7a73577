package app

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"syscall"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server"
	"github.com/bermhq/berm/internal/server/ingress"
)

// listeners are the ports of a server.
type listeners struct {
	shared, native net.Listener
	tls            *tls.Config
}

// listenAll opens the ports that the configuration names.
func listenAll(ctx context.Context, cfg Config) (*listeners, error) {
	l := &listeners{}
	var err error
	if l.tls, err = tlsConfig(cfg); err != nil {
		return nil, err
	}
	if l.shared, err = listen(ctx, "--listen", cfg.Listen); err != nil {
		return nil, err
	}
	if cfg.GRPCListen != "" {
		if l.native, err = listen(ctx, "--grpc-listen", cfg.GRPCListen); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

func tlsConfig(cfg Config) (*tls.Config, error) {
	if (cfg.TLSCert == "") != (cfg.TLSKey == "") {
		return nil, fault.Invalidf("USAGE", "--tls-cert and --tls-key go together")
	}
	if cfg.TLSCert == "" {
		return nil, nil //nolint:nilnil // plain text is what was asked for
	}
	cert, err := loadCertificate(cfg.TLSCert, cfg.TLSKey, certificateCheck, cfg.Logger)
	if err != nil {
		return nil, err
	}
	return &tls.Config{GetCertificate: cert.get, MinVersion: tls.VersionTLS12}, nil
}

func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fault.Preconditionf("PORT_TAKEN", "%s is in use", address).
			WithHint("Is another `berm serve` running? Choose another port with %s.", flag)
	}
	if err != nil {
		return nil, fault.Invalidf("LISTEN", "cannot listen on %q: %v", address, err).WithHint("%s takes HOST:PORT.", flag)
	}
	return l, nil
}

// url is how clients on this machine reach the shared port.
func (l *listeners) url() string {
	scheme := "http://"
	if l.tls != nil {
		scheme = "https://"
	}
	address, ok := l.shared.Addr().(*net.TCPAddr)
	if !ok {
		return scheme + l.shared.Addr().String()
	}
	if address.IP.IsUnspecified() {
		return scheme + net.JoinHostPort("localhost", strconv.Itoa(address.Port))
	}
	return scheme + address.String()
}

// ports is where ports of sandboxes have hosts: where the operator says, or on a machine by itself, where nobody else gets to.
func (l *listeners) ports(url string) (*ingress.Base, error) {
	if url != "" {
		return ingress.ParseBase(url)
	}
	address, ok := l.shared.Addr().(*net.TCPAddr)
	if !ok || !address.IP.IsLoopback() {
		return nil, nil //nolint:nilnil // there are none
	}
	scheme := "http"
	if l.tls != nil {
		scheme = "https"
	}
	return ingress.ParseBase(scheme + "://localhost:" + strconv.Itoa(address.Port))
}

// serve answers on all ports until they are closed.
func (l *listeners) serve(s *server.Server) error {
	failed := make(chan error, 2)
	n := 1
	go func() { failed <- s.Serve(l.shared) }()
	if l.native != nil {
		n++
		go func() { failed <- s.ServeGRPC(l.native) }()
	}
	var errs []error
	for range n {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

func (l *listeners) close() {
	for _, one := range []net.Listener{l.shared, l.native} {
		if one != nil {
			one.Close()
		}
	}
}
