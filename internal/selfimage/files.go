package selfimage

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"io"
	"strconv"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// userName is how a configuration says who runs; by numbers, so that Kubernetes can tell that it is not root.
var userName = strconv.Itoa(User) + ":" + strconv.Itoa(User)

// entry is a file of a layer, or a directory when its name ends in a slash.
type entry struct {
	name    string
	mode    int64
	owner   int
	content []byte
}

// base is what a program expects to find beside it.
func base(roots []byte) []entry {
	id := strconv.Itoa(User)
	return []entry{
		{name: "/etc/passwd", mode: 0o644, content: []byte("root:x:0:0:root:/:/sbin/nologin\nberm:x:" + id + ":" + id + ":Berm:" + State + ":/sbin/nologin\n")},
		{name: "/etc/group", mode: 0o644, content: []byte("root:x:0:\nberm:x:" + id + ":\n")},
		{name: "/etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: roots},
		{name: "/tmp/", mode: 0o1777},
		{name: State + "/", mode: 0o700, owner: User},
	}
}

// authorities returns the roots of Mozilla's programme as PEM. Those that Mozilla trusts under conditions are left out: a file of
// certificates cannot say them.
func authorities() ([]byte, error) {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// archive writes the entries of a layer, each dated to the beginning of time.
func archive(entries []entry) (func() (io.ReadCloser, error), error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: e.name[1:], Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.content)),
			ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
		}
		if e.name[len(e.name)-1] == '/' {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil }, nil
}
