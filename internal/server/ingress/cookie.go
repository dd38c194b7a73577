package ingress

import (
	"net/http"
	"strings"
)

// cookieName is the name of Berm's cookie on the host of a port, and hostCookieName that over TLS, where a browser sees to it that no other
// host has set it.
const (
	cookieName     = "berm-port"
	hostCookieName = "__Host-" + cookieName
)

func isOwnCookie(name string) bool { return name == cookieName || name == hostCookieName }

// dropOwnCookies takes Berm's cookies from a request and leaves the program's as they were written.
func dropOwnCookies(h http.Header) {
	var kept []string
	for _, line := range h["Cookie"] {
		for part := range strings.SplitSeq(line, ";") {
			part = strings.TrimSpace(part)
			name, _, _ := strings.Cut(part, "=")
			if part != "" && !isOwnCookie(strings.TrimSpace(name)) {
				kept = append(kept, part)
			}
		}
	}
	h.Del("Cookie")
	if len(kept) > 0 {
		h.Set("Cookie", strings.Join(kept, "; "))
	}
}

// hostCookies are cookies that a sandbox sets, each for its own host alone: one for the domain would be sent to every other sandbox. None
// has the name of Berm's.
func hostCookies(lines []string) []string {
	var out []string
	for _, line := range lines {
		name, _, _ := strings.Cut(line, "=")
		if isOwnCookie(strings.TrimSpace(name)) {
			continue
		}
		var kept []string
		for part := range strings.SplitSeq(line, ";") {
			if attr, _, _ := strings.Cut(part, "="); len(kept) > 0 && strings.EqualFold(strings.TrimSpace(attr), "Domain") {
				continue
			}
			kept = append(kept, part)
		}
		out = append(out, strings.Join(kept, ";"))
	}
	return out
}
