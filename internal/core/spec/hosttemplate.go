package spec

import (
	"fmt"
	"strings"
)

// hostVariable is what a template of a host name has in the place of the sandbox.
const hostVariable = "{{.SandboxID}}"

// anySandbox is as long as the id of a sandbox.
const anySandbox = "00000000-0000-0000-0000-000000000000"

// HostOf returns the host name that a template gives a sandbox, and whether it is one. As the id is in it, no other sandbox has it.
func HostOf(template, sandboxID string) (string, bool) {
	host := strings.ReplaceAll(template, hostVariable, sandboxID)
	return host, strings.Contains(template, hostVariable) && isDomain(host)
}

func checkHostTemplate(text string) string {
	if !strings.Contains(text, hostVariable) {
		return fmt.Sprintf("%q does not have %s, without which sandboxes would share a host name", clip(text), hostVariable)
	}
	if host, ok := HostOf(text, anySandbox); !ok {
		why := fmt.Sprintf("%q gives no host name: at most 253 of a-z, 0-9, - and ., at most 63 between dots, an id of 36 among them", clip(text))
		if strings.Contains(host, "{{") {
			why = fmt.Sprintf("%q has something else in braces than %s", clip(text), hostVariable)
		}
		return why
	}
	return ""
}
