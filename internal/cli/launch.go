package cli

import (
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/core/fault"
)

// maxFlagFile is the largest file that --file mounts, in bytes.
const maxFlagFile = 8 << 20

// launchFlags are the flags that make a launch request.
type launchFlags struct {
	profiles, runners, tags, env, files, secrets, annotations []string
	image, cpu, memory, cpuRequest, memoryRequest             string
	egress, ingress                                           string
	expose                                                    []string
	lifetime                                                  int32
	lease, purpose                                            string
}

func (l *launchFlags) bind(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&l.profiles, "profile", nil, "profile to launch under, repeatable in order of preference; default: the runner's")
	f.StringArrayVar(&l.runners, "runner", nil, "runner to launch on, repeatable; default: any")
	f.StringVar(&l.image, "image", "", "container image; default: the profile's")
	f.StringVar(&l.cpu, "cpu", "", "CPU limit, as a Kubernetes quantity: 500m, 2")
	f.StringVar(&l.memory, "memory", "", "memory limit: 512Mi, 1Gi")
	f.StringVar(&l.cpuRequest, "cpu-request", "", "CPU reserved; default: the limit")
	f.StringVar(&l.memoryRequest, "memory-request", "", "memory reserved; default: the limit")
	f.StringVar(&l.egress, "egress", "", "egress mode that the profile declares")
	f.StringVar(&l.ingress, "ingress", "", "ingress mode that the profile declares, for --expose; default: the profile's")
	f.StringArrayVar(&l.expose, "expose", nil, "port to expose, PORT or PORT/PROTOCOL (TCP, UDP), repeatable")
	f.StringArrayVarP(&l.env, "env", "e", nil, "environment variable NAME=VALUE, or NAME to pass one on; repeatable")
	f.StringArrayVar(&l.secrets, "secret", nil, "environment variable from a secret store, ENV=STORE/PATH[#FIELD]; repeatable")
	f.StringArrayVar(&l.files, "file", nil, "file to mount read-only, LOCAL:PATH; repeatable")
	f.StringArrayVar(&l.tags, "tag", nil, "tag to find the sandbox by, repeatable")
	f.StringArrayVar(&l.annotations, "annotation", nil, "pod annotation KEY=VALUE, repeatable")
	f.StringVar(&l.lease, "in-lease", "", "id of a lease: the sandbox is stopped when that ends; default: BERM_LEASE, as in `berm lease hold`")
	f.StringVar(&l.purpose, "purpose", "", "what it is for, in your words: `berm ls --orphans` shows it")
	f.Int32Var(&l.lifetime, "lifetime", 0, "seconds until the sandbox is stopped; default: the profile's")
}

// launchFlagNames are the names of the flags that say what to launch.
func launchFlagNames() []string {
	var names []string
	only := &cobra.Command{}
	(&launchFlags{}).bind(only)
	for _, m := range flagInUsage.FindAllStringSubmatch(only.Flags().FlagUsages(), -1) {
		names = append(names, m[1])
	}
	return names
}

func (l *launchFlags) request(s *session) (*v1beta2pb.StartSandboxRequest, error) {
	req := &v1beta2pb.StartSandboxRequest{
		ProfileNames: l.profiles, RunnerIds: l.runners, Tags: l.tags, ContainerImage: l.image, MaxLifetimeSeconds: l.lifetime,
		LeaseId: l.lease, Purpose: l.purpose,
	}
	if l.cpu != "" || l.memory != "" {
		req.ResourceLimits = &v1beta2pb.ResourceRequest{Cpu: l.cpu, Memory: l.memory}
		req.ResourceRequests = &v1beta2pb.ResourceRequest{Cpu: l.cpu, Memory: l.memory}
	}
	if l.cpuRequest != "" || l.memoryRequest != "" {
		if req.ResourceRequests == nil {
			return nil, fault.Invalidf("USAGE", "--cpu-request and --memory-request need --cpu or --memory: a request goes with a limit")
		}
		req.ResourceRequests = &v1beta2pb.ResourceRequest{Cpu: first(l.cpuRequest, l.cpu), Memory: first(l.memoryRequest, l.memory)}
	}
	if l.egress != "" || l.ingress != "" || len(l.expose) > 0 {
		req.Network = &v1beta2pb.NetworkOptions{EgressMode: l.egress, IngressMode: l.ingress}
	}
	for _, text := range l.expose {
		port, err := exposed(text)
		if err != nil {
			return nil, err
		}
		req.Ports = append(req.Ports, port)
		// A number that is given for both protocols is exposed once, for both.
		if n := port.GetContainerPort(); !slices.Contains(req.Network.ExposedPorts, n) {
			req.Network.ExposedPorts = append(req.Network.ExposedPorts, n)
		}
	}
	var err error
	if req.EnvironmentVariables, err = pairs("--env", l.env, s.Getenv); err != nil {
		return nil, err
	}
	if req.SecretStores, err = secretRefs(l.secrets); err != nil {
		return nil, err
	}
	if req.PodAnnotations, err = pairs("--annotation", l.annotations, nil); err != nil {
		return nil, err
	}
	for _, f := range l.files {
		local, path, ok := strings.Cut(f, ":")
		if !ok || local == "" || !strings.HasPrefix(path, "/") {
			return nil, fault.Invalidf("USAGE", "--file %q is not LOCAL:PATH with an absolute path", f)
		}
		data, err := readLimited(local, maxFlagFile)
		if err != nil {
			return nil, err
		}
		req.MountedFiles = append(req.MountedFiles, &v1beta2pb.MountedFile{MountPath: path, FileContent: data})
	}
	return req, nil
}

// exposed reads PORT or PORT/PROTOCOL.
func exposed(text string) (*v1beta2pb.Port, error) {
	number, protocol, given := strings.Cut(text, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 || given && protocol == "" {
		return nil, fault.Invalidf("USAGE", "--expose %q is none of PORT, PORT/PROTOCOL; ports are from 1 to 65535", text)
	}
	return &v1beta2pb.Port{ContainerPort: int32(n), Protocol: strings.ToUpper(protocol)}, nil
}

// pairs splits KEY=VALUE. A KEY alone takes its value from getenv, when given.
func pairs(flag string, values []string, getenv func(string) string) (map[string]string, error) {
	if len(values) == 0 {
		return nil, nil
	}
	out := make(map[string]string, len(values))
	for _, v := range values {
		key, value, ok := strings.Cut(v, "=")
		switch {
		case key == "":
			return nil, fault.Invalidf("USAGE", "%s %q has no name", flag, v)
		case !ok && getenv == nil:
			return nil, fault.Invalidf("USAGE", "%s %q is not KEY=VALUE", flag, v)
		case !ok:
			value = getenv(key)
		}
		if _, dup := out[key]; dup {
			return nil, fault.Invalidf("USAGE", "%s gives %q twice", flag, key)
		}
		out[key] = value
	}
	return out, nil
}

func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, unreadable(name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, unreadable(name, err)
	}
	if int64(len(data)) > limit {
		return nil, fault.Invalidf(fault.ReasonFileTooLarge, "%s is larger than %d bytes, the most that goes in one call", name, limit)
	}
	return data, nil
}

// command returns what stands behind --.
func command(c *cobra.Command, a []string, before int) (head, cmd []string, err error) {
	dash := c.ArgsLenAtDash()
	if dash < 0 {
		dash = min(before, len(a))
	}
	head, cmd = a[:dash], a[dash:]
	if len(cmd) > 0 && cmd[0] == "--" { // left in place when an argument stands before it
		cmd = cmd[1:]
	}
	if len(head) != before {
		return nil, nil, fault.Invalidf("USAGE", "%s: expected %d argument(s) before the command, got %d", c.CommandPath(), before, len(head)).
			WithHint("Usage: %s", c.UseLine())
	}
	return head, cmd, nil
}
