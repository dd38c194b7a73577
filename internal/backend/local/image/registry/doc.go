// Package registry reads images from registries: manifests into memory, layers into files.
//
// Neither a registry nor what it points to is trusted. Every answer is bounded in size and in time, every byte is checked
// against its digest, and the address of every connection is checked when it is made, whichever name, redirect, token server
// or resolver led to it: to the machine itself, to private networks and to metadata services only where the operator listed
// the host, to link-local addresses never. Credentials are read from a file for each pull and go to the registry and to the
// token server that it names, over encrypted connections; they are in no log and no error.
//
// Names, authentication and the form of errors are those of go-containerregistry. Requests are made here: that library reads
// blobs without resuming them, and bounds neither their speed nor the addresses behind names.
package registry

import "time"

// Limits of a registry's answers.
const (
	// MaxManifestBytes is the largest index, manifest or configuration, and the largest answer that is no layer, in bytes.
	MaxManifestBytes = 4 << 20
	// MaxHeaderBytes is the largest head of an answer, in bytes.
	MaxHeaderBytes = 256 << 10
	// MaxRedirects is how many redirects one request may follow.
	MaxRedirects = 5
	// MaxAttempts is how often in a row a request is made without a byte gained, before a pull fails.
	MaxAttempts = 4
	// MaxRequests is how often one thing is asked for in all.
	MaxRequests = 64
	// MaxCredentialsBytes is the largest credentials file, in bytes.
	MaxCredentialsBytes = 1 << 20
	// MaxErrorText is how much of what a registry says about an error is passed on, in bytes.
	MaxErrorText = 512
	// MaxOtherHosts is of how many registries without settings of their own it is remembered what is asked of them.
	MaxOtherHosts = 1024
	// MaxRest is how long a registry is left alone at most, however long it asks for.
	MaxRest = time.Hour
	// DefaultMaxDownloads is how many layers are downloaded from one registry at a time.
	DefaultMaxDownloads = 4
	// MaxDownloads is the most that a configuration may ask for.
	MaxDownloads = 64
	// MaxPullsPerMinute is the most manifests a minute that a configuration may name.
	MaxPullsPerMinute = 10_000
	// MinBytesPerSecond is the least bandwidth that a registry may be held to: less would look like a registry that stalls.
	MinBytesPerSecond = 64 << 10

	// chunk is how much is read from a connection and written to a file at a time, in bytes.
	chunk = 128 << 10
	// maxIdlePerHost is how many connections to one host are kept for the next request, maxIdleTime for how long.
	maxIdlePerHost = MaxDownloads
	maxIdleTime    = 30 * time.Second
)

// Limits are the times that a pull may take. The zero value of a field stands for its default.
type Limits struct {
	// Connect bounds one connection: looking the name up and reaching the address. Default 10 s.
	Connect time.Duration
	// Handshake bounds the encryption's beginning. Default 10 s.
	Handshake time.Duration
	// Header is how long a registry may take to begin an answer. Default 30 s.
	Header time.Duration
	// Manifest bounds everything that is needed for one manifest or configuration, authentication included. Default 60 s.
	Manifest time.Duration
	// Stall is the time in which at least StallBytes of a layer, or its rest, must come. Defaults 30 s and 16 KiB.
	Stall      time.Duration
	StallBytes int64
	// RetryAfter is the longest wait that a registry may ask for and get. Default 30 s.
	RetryAfter time.Duration
	// Backoff is the wait before the second attempt; it doubles with each. Default 200 ms.
	Backoff time.Duration
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.Connect, 10 * time.Second}, {&l.Handshake, 10 * time.Second}, {&l.Header, 30 * time.Second}, {&l.Manifest, time.Minute},
		{&l.Stall, 30 * time.Second}, {&l.RetryAfter, 30 * time.Second}, {&l.Backoff, 200 * time.Millisecond},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	if l.StallBytes == 0 {
		l.StallBytes = 16 << 10
	}
	return l
}

// Failpoints lists the failpoints of this package.
func Failpoints() []string { return []string{failPartWritten, failBlobWhole} }

const (
	failPartWritten = "registry.part-written"
	failBlobWhole   = "registry.blob-whole"
)
