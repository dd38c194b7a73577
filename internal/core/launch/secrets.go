package launch

import (
	"strconv"
	"strings"
)

// Limits of secrets.
const (
	// MaxSecretPath is the longest path of a secret in its store, MaxSecretField the longest name of a field, in bytes.
	MaxSecretPath  = 256
	MaxSecretField = 128
	// DefaultSecretField is the field meant where none is named and there are several.
	DefaultSecretField = "value"
)

// secretName are the bytes of a field's name, and of a segment of a path.
const secretName = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// BadSecretPath says what is wrong with the path of a secret that is to be written, "" for nothing.
func BadSecretPath(path string) string {
	switch {
	case path == "":
		return "is empty"
	case len(path) > MaxSecretPath:
		return "has " + strconv.Itoa(len(path)) + " bytes, the limit is " + strconv.Itoa(MaxSecretPath)
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, secretName) != "" {
			return "is not of segments of A-Z, a-z, 0-9, ., _ and - that are joined by /"
		}
	}
	return ""
}

// BadSecretField says what is wrong with the name of a field, "" for nothing.
func BadSecretField(name string) string {
	switch {
	case name == "":
		return "a field has no name"
	case len(name) > MaxSecretField:
		return "a name has " + strconv.Itoa(len(name)) + " bytes, the limit is " + strconv.Itoa(MaxSecretField)
	case strings.Trim(name, secretName) != "":
		return "a name has A-Z, a-z, 0-9, ., _ and - alone"
	}
	return ""
}

// badVariable says what is wrong with the name of an environment variable, "" for nothing.
func badVariable(name string) string {
	switch {
	case name == "":
		return "a variable has no name"
	case len(name) > MaxEnvName:
		return "a name has " + strconv.Itoa(len(name)) + " bytes, the limit is " + strconv.Itoa(MaxEnvName)
	case strings.ContainsFunc(name, func(c rune) bool { return c == '=' || c <= ' ' || c > '~' }):
		return "a name is of printable ASCII characters without spaces and without ="
	}
	return ""
}
