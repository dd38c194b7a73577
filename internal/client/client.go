// Package client calls a Berm server: REST where JSON says more than messages can (profiles, runners, zones), gRPC for the rest. Both
// ends of an error are faults: errors.go is the only place that reads a status.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"

	bermv1rpc "github.com/bermhq/berm/gen/berm/v1rpc"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/payload"
)

// Limits of the client.
const (
	// MaxMessage is the largest gRPC message, in bytes: that of the published clients, with room for the frame around a file.
	MaxMessage = 128 << 20
	// MaxBody is the largest REST answer read, in bytes.
	MaxBody = 64 << 20
	// window is how much of one call may be on its way here unread, connWindow how much of all calls, in bytes. They are fixed: the
	// estimate that gRPC makes of a line is far off on a loaded machine.
	window     = 4 << 20
	connWindow = 16 << 20
	// ioBuffer is how much is read from and written to a connection at a time, in bytes.
	ioBuffer = 128 << 10
	// connectTimeout bounds the making of a connection.
	connectTimeout = 10 * time.Second
)

// Config says where the server is and who calls.
type Config struct {
	// URL is http://host:port or https://host:port.
	URL string
	// Token is the API token; "" sends none.
	Token string
	// CAFile, when not empty, is a PEM file of the authorities trusted in place of the system's.
	CAFile string
}

// Client is a connection to one server. It is safe for concurrent use.
type Client struct {
	base  string
	token string
	ca    string
	http  *http.Client
	conn  *grpc.ClientConn
}

// New prepares a client. No connection is made before the first call.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" {
		return nil, fault.Invalidf("URL_INVALID", "%q is not the URL of a server", cfg.URL).WithHint("Use http://HOST:PORT or https://HOST:PORT, without a path.")
	}
	tlsConfig, err := tlsFor(cfg)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if u.Scheme == "https" {
		creds = credentials.NewTLS(tlsConfig)
	}
	c := &Client{base: u.Scheme + "://" + u.Host, token: cfg.Token, ca: cfg.CAFile}
	c.http = &http.Client{Transport: &http.Transport{
		TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, DialContext: (&net.Dialer{Timeout: connectTimeout}).DialContext,
	}}
	target := u.Host
	if u.Port() == "" {
		target = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	c.conn, err = grpc.NewClient("passthrough:///"+target,
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage), grpc.ForceCodecV2(payload.Codec())),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithReadBufferSize(ioBuffer), grpc.WithWriteBufferSize(ioBuffer),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithUnaryInterceptor(c.unary), grpc.WithStreamInterceptor(c.stream))
	if err != nil {
		return nil, fault.Invalidf("URL_INVALID", "cannot use %q", cfg.URL).WithCause(err)
	}
	return c, nil
}

func tlsFor(cfg Config) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile == "" {
		return out, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fault.Invalidf("CA_FILE", "cannot read the CA file %s", cfg.CAFile).WithCause(err)
	}
	out.RootCAs = x509.NewCertPool()
	if !out.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fault.Invalidf("CA_FILE", "%s holds no PEM certificate", cfg.CAFile)
	}
	return out, nil
}

// Close ends the connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return c.conn.Close()
}

// URL returns the server's address.
func (c *Client) URL() string { return c.base }

// CAFile returns the file of the authorities that are trusted in place of the system's, "" for none.
func (c *Client) CAFile() string { return c.ca }

// Gateway is the published data plane.
func (c *Client) Gateway() v1beta2rpc.GatewayServiceClient {
	return v1beta2rpc.NewGatewayServiceClient(c.conn)
}

// Streaming is the published streaming data plane.
func (c *Client) Streaming() v1beta2rpc.GatewayStreamingServiceClient {
	return v1beta2rpc.NewGatewayStreamingServiceClient(c.conn)
}

// Discovery is the published discovery.
func (c *Client) Discovery() v1beta2rpc.DiscoveryServiceClient {
	return v1beta2rpc.NewDiscoveryServiceClient(c.conn)
}

// Abilities is what runners can do.
func (c *Client) Abilities() bermv1rpc.AbilityServiceClient {
	return bermv1rpc.NewAbilityServiceClient(c.conn)
}

// Audit tells who did what.
func (c *Client) Audit() bermv1rpc.AuditServiceClient { return bermv1rpc.NewAuditServiceClient(c.conn) }

// Checkpoints saves sandboxes with their memory.
func (c *Client) Checkpoints() bermv1rpc.CheckpointServiceClient {
	return bermv1rpc.NewCheckpointServiceClient(c.conn)
}

// Explain is what Berm adds: sandboxes in full, explain, plan.
func (c *Client) Explain() bermv1rpc.ExplainServiceClient {
	return bermv1rpc.NewExplainServiceClient(c.conn)
}

// Files moves files and directories.
func (c *Client) Files() bermv1rpc.FileServiceClient { return bermv1rpc.NewFileServiceClient(c.conn) }

// Execs runs commands that outlive their caller.
func (c *Client) Execs() bermv1rpc.ExecServiceClient { return bermv1rpc.NewExecServiceClient(c.conn) }

// Ports connects to ports of sandboxes.
func (c *Client) Ports() bermv1rpc.PortServiceClient { return bermv1rpc.NewPortServiceClient(c.conn) }

// Logs reads what main processes printed.
func (c *Client) Logs() bermv1rpc.LogServiceClient { return bermv1rpc.NewLogServiceClient(c.conn) }

// Watches tells what changes.
func (c *Client) Watches() bermv1rpc.WatchServiceClient {
	return bermv1rpc.NewWatchServiceClient(c.conn)
}

// SecretStores makes, lists and removes stores of secrets.
func (c *Client) SecretStores() v1beta2rpc.SecretStoreServiceClient {
	return v1beta2rpc.NewSecretStoreServiceClient(c.conn)
}

// Secrets writes, lists and removes the secrets of stores.
func (c *Client) Secrets() bermv1rpc.SecretServiceClient {
	return bermv1rpc.NewSecretServiceClient(c.conn)
}

// Orgs makes and lists organizations.
func (c *Client) Orgs() bermv1rpc.OrgServiceClient { return bermv1rpc.NewOrgServiceClient(c.conn) }

// Tokens makes, lists and revokes tokens.
func (c *Client) Tokens() bermv1rpc.TokenServiceClient {
	return bermv1rpc.NewTokenServiceClient(c.conn)
}

// Leases keeps sandboxes alive for as long as their holder is.
func (c *Client) Leases() bermv1rpc.LeaseServiceClient {
	return bermv1rpc.NewLeaseServiceClient(c.conn)
}

// Enrolments lets processes on other machines become runners.
func (c *Client) Enrolments() bermv1rpc.EnrolmentServiceClient {
	return bermv1rpc.NewEnrolmentServiceClient(c.conn)
}

// Maintenance takes runners out of service and back.
func (c *Client) Maintenance() bermv1rpc.MaintenanceServiceClient {
	return bermv1rpc.NewMaintenanceServiceClient(c.conn)
}

// Revisions lists what objects were.
func (c *Client) Revisions() bermv1rpc.RevisionServiceClient {
	return bermv1rpc.NewRevisionServiceClient(c.conn)
}

// Images looks after the images that runners keep.
func (c *Client) Images() bermv1rpc.ImageServiceClient {
	return bermv1rpc.NewImageServiceClient(c.conn)
}

func (c *Client) authorized(ctx context.Context) context.Context {
	if c.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
}

func (c *Client) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return FromRPC(next(c.authorized(ctx), method, req, reply, cc, opts...))
}

func (c *Client) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := next(c.authorized(ctx), desc, cc, method, opts...)
	return s, FromRPC(err)
}

// REST calls a REST method. body is sent as it is when not nil; the answer is returned as it came. Errors are faults.
func (c *Client) REST(ctx context.Context, method, path string, body json.RawMessage, header ...string) (json.RawMessage, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return nil, fault.Invalidf("URL_INVALID", "cannot call %s", path).WithCause(err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	if err != nil {
		return nil, c.unreachable(err)
	}
	if len(answer) > MaxBody {
		return nil, fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "the answer of %s is larger than %d bytes", path, MaxBody)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, FromBody(resp.StatusCode, answer)
	}
	return answer, nil
}

// Start launches a sandbox. It goes over REST: a refusal then comes with all candidates, where gRPC has room for few.
func (c *Client) Start(ctx context.Context, req *v1beta2pb.StartSandboxRequest) (*v1beta2pb.StartSandboxResponse, error) {
	body, err := protojson.Marshal(req)
	if err != nil {
		return nil, fault.Invalidf("REQUEST_INVALID", "the request cannot be sent").WithCause(err)
	}
	raw, err := c.REST(ctx, http.MethodPost, "/v1beta2/sandboxes", body)
	if err != nil {
		return nil, err
	}
	out := &v1beta2pb.StartSandboxResponse{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, out); err != nil {
		return nil, fault.Internalf(err, "the answer is not what was expected")
	}
	return out, nil
}

func (c *Client) unreachable(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var op *net.OpError
	text := err.Error()
	if errors.As(err, &op) {
		text = op.Err.Error()
	}
	return fault.New(fault.Unavailable, "SERVER_UNREACHABLE", "cannot reach the server at %s: %s", c.base, text).
		WithHint("%s", dialHint(text)).WithCause(err)
}

// Path joins segments into an escaped path.
func Path(format string, segments ...string) string {
	escaped := make([]any, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(s)
	}
	return fmt.Sprintf(format, escaped...)
}
