package spec

import (
	"fmt"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
)

// CheckName returns nil for a name that a profile, a binding, a runner or a zone may have: 1 to MaxName of A-Z, a-z, 0-9,
// ".", "_" and "-", starting alphanumeric, and not of the shape of a UUID, since launches take either. path is where the
// name was given. The error is an Invalid fault with one violation.
func CheckName(path, name string) error {
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid name")
	switch {
	case name == "":
		return e.WithField(path, "must be given")
	case len(name) > MaxName:
		return e.WithField(path, "%q has %d bytes, the limit is %d", clip(name), len(name), MaxName)
	case !only(name, alnum+"._-") || !strings.ContainsRune(alnum, rune(name[0])):
		return e.WithField(path, "%q may hold A-Z, a-z, 0-9, ., _ and -, and starts with a letter or digit%s", clip(name), nearName(name))
	case IsUUIDShaped(name):
		return e.WithField(path, "%q has the shape of a UUID; a name must not, because launches take either", name)
	}
	return nil
}

func nearName(name string) string {
	near := strings.Trim(strings.Map(func(c rune) rune {
		if strings.ContainsRune(alnum+"._-", c) {
			return c
		}
		return '-'
	}, name), "-._")
	if near == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", near)
}

// IsUUIDShaped reports 32 hexadecimal digits grouped 8-4-4-4-12, in any case.
func IsUUIDShaped(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (s[i] == '-') {
			return false
		}
		if !dash && !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
			return false
		}
	}
	return true
}
