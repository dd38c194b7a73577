package local

import (
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// Secrets of a launch are in memory: of the server until the sandbox runs, then of its shim, its init and its processes. They are in no
// record, so a server that is started again cannot begin a sandbox with them that another one had only accepted.

// secretEnv returns NAME=value for each secret of a work.
func secretEnv(w *backend.Work) []string {
	var env []string
	for _, s := range w.Secrets {
		env = append(env, s.EnvVar+"="+string(s.Value))
	}
	return env
}

// secretsNow returns the secrets for a start; a fault when they were lost with another server.
func (s *sandbox) secretsNow() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.work.Launch.GetSecretStores()) > 0 && len(s.secrets) == 0 {
		return nil, fault.Preconditionf(fault.ReasonSandboxNotRunning, "the server was restarted before the sandbox ran, and its secrets are kept in memory alone").
			WithHint("launch it again")
	}
	return s.secrets, nil
}
