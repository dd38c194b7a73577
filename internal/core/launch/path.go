package launch

import "strings"

// touched pairs each field of the spec that a request can touch with the request's own name for it. Entries of maps keep
// their brackets. This is the table of layer 4, once.
var touched = [...]struct{ spec, request string }{
	{"container_image", "container_image"},
	{"resource_defaults.cpu_request", "resource_requests.cpu"},
	{"resource_defaults.memory_request", "resource_requests.memory"},
	{"resource_defaults.cpu_limit", "resource_limits.cpu"},
	{"resource_defaults.memory_limit", "resource_limits.memory"},
	{"resource_defaults.gpu", "resource_limits.gpu"},
	{"network.egress.selected", "network.egress_mode"},
	{"network.ingress.selected", "network.ingress_mode"},
	{"pod.metadata.annotations", "pod_annotations"},
}

// RequestPath returns the name by which a request gives the field of the spec; path itself when there is none.
func RequestPath(path string) string {
	for _, t := range touched {
		if rest, ok := below(path, t.spec); ok {
			return t.request + rest
		}
	}
	return path
}

// SpecPath returns the field of the spec that a request's field touches. ok is false for a field that concerns the sandbox
// alone.
func SpecPath(path string) (string, bool) {
	for _, t := range touched {
		if rest, ok := below(path, t.request); ok {
			return t.spec + rest, true
		}
	}
	return "", false
}

// below reports whether path is root or something inside it, and returns what follows.
func below(path, root string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, root)
	return rest, ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
