package backend

// Runtime is what one runtime class of a backend does. It is probed, not assumed.
type Runtime struct {
	// Name is the runtime class, Program what runs it in words: "crun 1.8.1 (/usr/bin/crun)".
	Name, Program string
	// Isolation says in words what separates its sandboxes from the machine.
	Isolation string
	// Enforcement says what holds for its sandboxes, in a fixed order.
	Enforcement []Enforcement
	// Unenforced is as in Info, for this class alone.
	Unenforced map[string]string
}

// Enforcement is one thing that a runtime holds its sandboxes to, or does for them.
type Enforcement struct {
	// Name is stable: "cpu", "memory", "pids", "seccomp", "user-namespace", "egress:none", "pause", "checkpoint", "terminal-eof", …
	Name string
	// Works is false where it does not: what asks for it is refused.
	Works bool
	// Note says how far it goes, or why not.
	Note string
}

// Of returns what holds for sandboxes of a runtime class, for "" of the default one.
func (i *Info) Of(class string) Runtime {
	if class == "" {
		class = i.DefaultRuntimeClass
	}
	for _, r := range i.Runtimes {
		if r.Name == class {
			return r
		}
	}
	return Runtime{Name: class, Isolation: i.Isolation, Unenforced: i.Unenforced}
}
