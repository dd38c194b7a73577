package kube

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// maxLabel is the longest label value and the longest DNS label that Kubernetes takes, in bytes.
	maxLabel = 63
	// hashLen is how many characters of a hash a shortened name ends in: 65 bits, so that nobody meets another's name by
	// chance and finding one that fits a given name is out of reach.
	hashLen = 13
)

// hash returns hashLen characters of [0-9a-v] that identify the parts; ("ab","c") and ("a","bc") differ.
func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return strings.ToLower(base32.HexEncoding.EncodeToString(h.Sum(nil)))[:hashLen]
}

// hashed reports whether s ends the way a shortened name does, or is nothing but a hash. Such a name is never taken verbatim: it could be the
// shortened form of another.
func hashed(s string) bool {
	i := strings.LastIndexByte(s, '-')
	return len(s)-i-1 == hashLen && strings.Trim(s[i+1:], "0123456789abcdefghijklmnopqrstuv") == ""
}

// slug returns the part of s that is fit for a DNS label, at most n bytes; it may be empty.
func slug(s string, n int) string {
	var b strings.Builder
	for _, c := range strings.ToLower(s) {
		if b.Len() >= n {
			break
		}
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}

// labelValue returns s itself where it is a label value, else a readable, unique stand-in.
func labelValue(s string) string {
	if !hashed(s) && len(validation.IsValidLabelValue(s)) == 0 {
		return s
	}
	return stem(slug(s, maxLabel-hashLen-1), hash(s))
}

// dnsName returns prefix and id when that makes a DNS label, else a readable, unique stand-in that begins with prefix.
func dnsName(prefix, id string) string {
	name := prefix + id
	if !hashed(name) && isLabel(name) {
		return name
	}
	return hashedName(prefix, id, id)
}

// hashedName returns prefix, as much of id as fits, and a hash of the parts.
func hashedName(prefix, id string, parts ...string) string {
	room := max(0, maxLabel-len(prefix)-hashLen-1)
	return prefix + stem(slug(id, room), hash(parts...))
}

func stem(slug, hash string) string {
	if slug == "" {
		return hash
	}
	return slug + "-" + hash
}

// labelForm says in words what isLabel wants.
const labelForm = "at most 63 of a-z, 0-9 and -, the first and the last no -"

// isLabel reports a DNS label, the form of most names in Kubernetes.
func isLabel(s string) bool { return len(validation.IsDNS1123Label(s)) == 0 }
