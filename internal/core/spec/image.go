package spec

import (
	"fmt"
	"strings"
)

// Limits of an image reference, those of the distribution specification.
const (
	maxImageName = 255
	maxImageTag  = 128
)

// checkImage accepts name, name:tag, name@digest and name:tag@digest, where name may start with a registry's host.
func checkImage(text string) string {
	name, digest, hasDigest := strings.Cut(text, "@")
	if hasDigest && !isImageDigest(digest) {
		return fmt.Sprintf("%q: the digest is not sha256: and 64 of 0-9, a-f", clip(text))
	}
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		tag := name[colon+1:]
		name = name[:colon]
		if tag == "" || len(tag) > maxImageTag || !only(tag, alnum+"_.-") || tag[0] == '.' || tag[0] == '-' {
			return fmt.Sprintf("%q: %q is no tag", clip(text), clip(tag))
		}
	}
	if why := checkImageName(name); why != "" {
		return fmt.Sprintf("%q is no image reference such as \"python:3.11\": %s", clip(text), why)
	}
	return ""
}

func isImageDigest(d string) bool {
	hash, ok := strings.CutPrefix(d, "sha256:")
	return ok && len(hash) == 64 && only(hash, "0123456789abcdef")
}

func checkImageName(name string) string {
	if len(name) > maxImageName {
		return fmt.Sprintf("its name is longer than %d bytes", maxImageName)
	}
	parts := strings.Split(name, "/")
	if len(parts) > 1 && isRegistry(parts[0]) {
		parts = parts[1:]
	}
	for _, p := range parts {
		switch {
		case p == "":
			return "a part of its name is empty"
		case strings.ToLower(p) != p:
			return "names are in lower case"
		case !isImagePart(p):
			return fmt.Sprintf("%q is not made of a-z, 0-9 and single separators between them", clip(p))
		}
	}
	return ""
}

func isRegistry(s string) bool {
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort && (port == "" || len(port) > 5 || !only(port, "0123456789")) {
		return false
	}
	return isDomain(strings.ToLower(host)) && (hasPort || strings.Contains(host, ".") || host == "localhost")
}

// isImagePart: alphanumeric runs separated by one point, one or two underscores, or any number of dashes.
func isImagePart(s string) bool {
	sep := ""
	if strings.IndexByte(lower, s[0]) < 0 {
		return false
	}
	for _, c := range s + "0" {
		if strings.ContainsRune(lower, c) {
			if sep != "" && sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "" {
				return false
			}
			sep = ""
			continue
		}
		if !strings.ContainsRune("._-", c) {
			return false
		}
		sep += string(c)
	}
	return strings.IndexByte(lower, s[len(s)-1]) >= 0
}

// checkImagePattern accepts references in which * stands for a part of a path segment and ** for any number of segments.
func checkImagePattern(text string) string {
	if len(text) > 2*maxImageName {
		return fmt.Sprintf("is longer than %d bytes", 2*maxImageName)
	}
	if !only(text, alnum+"._-/:@*") || strings.Contains(text, "***") || strings.Contains(text, "//") || text[0] == '/' {
		return fmt.Sprintf("%q is no image pattern such as \"registry.example/agents/**\" or \"python:3.*\"", clip(text))
	}
	return ""
}
