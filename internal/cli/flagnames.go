package cli

import (
	"strings"

	"google.golang.org/protobuf/proto"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
)

// flagNames says which flag stands for which field of a launch request, so that messages name what the user typed.
func (l *launchFlags) flagNames() map[string]string {
	names := map[string]string{
		"profile_names": "--profile", "runner_ids": "--runner", "container_image": "--image", "network.egress_mode": "--egress",
		"network.ingress_mode": "--ingress", "network.exposed_ports": "--expose", "ports": "--expose",
		"environment_variables": "--env", "mounted_files": "--file", "secret_stores": "--secret", "tags": "--tag", "pod_annotations": "--annotation",
		"max_lifetime_seconds": "--lifetime",
		"resource_limits.cpu":  "--cpu", "resource_limits.memory": "--memory",
		"resource_requests.cpu": "--cpu-request", "resource_requests.memory": "--memory-request",
	}
	// A request that is not given is as large as the limit.
	if l.cpuRequest == "" {
		names["resource_requests.cpu"] = "--cpu"
	}
	if l.memoryRequest == "" {
		names["resource_requests.memory"] = "--memory"
	}
	return names
}

// fieldName returns the flag for a field of the request, with what follows in brackets; the path itself when no flag made it.
func (s *session) fieldName(path string) string {
	root, rest := path, ""
	if i := strings.IndexByte(path, '['); i >= 0 {
		root, rest = path[:i], path[i:]
	}
	if name, ok := s.flags[root]; ok {
		return name + rest
	}
	return path
}

// asFlags returns the changes of a request as changes of its flags. Where request and limit become one amount, the flag that sets
// both is enough.
func (s *session) asFlags(changes []*bermv1.Change) []*bermv1.Change {
	if s.flags == nil {
		return changes
	}
	limits := map[string]*bermv1.Change{}
	for _, c := range changes {
		limits[c.GetPath()] = c
	}
	var out []*bermv1.Change
	for _, c := range changes {
		kind, isRequest := strings.CutPrefix(c.GetPath(), "resource_requests.")
		if isRequest && s.flags[c.GetPath()] != "--"+kind+"-request" {
			if l, ok := limits["resource_limits."+kind]; ok && proto.Equal(l.GetTo(), c.GetTo()) {
				continue
			}
		}
		named := proto.CloneOf(c)
		if named.Path = s.fieldName(c.GetPath()); isRequest && s.flags[c.GetPath()] != "" {
			named.Path = "--" + kind + "-request"
		}
		out = append(out, named)
	}
	return out
}
