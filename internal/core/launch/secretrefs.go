package launch

import (
	"strings"
	"unicode"
	"unicode/utf8"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// MaxSecrets is how many secrets a request may ask for.
const MaxSecrets = 50

// secrets checks the references to secrets. Whether there are such secrets, the core does not know.
func (p *problems) secrets(l *specpb.Launch) {
	n := 0
	from := map[string]string{} // which secret a variable is from
	for i, use := range l.GetSecretStores() {
		at := index("secret_stores", i)
		p.secretText(at+".store_name", use.GetStoreName(), MaxSecretField, true)
		if len(use.GetSecrets()) == 0 {
			p.add(at+".secrets", "names no secret")
		}
		n += len(use.GetSecrets())
		for j, s := range use.GetSecrets() {
			if n > MaxSecrets {
				break
			}
			at := at + "." + index("secrets", j)
			p.secretText(at+".path", s.GetPath(), MaxSecretPath, true)
			p.secretText(at+".field", s.GetField(), MaxSecretField, false)
			p.secretVar(at+".env_var", s.GetEnvVar(), l)
			source := strings.Join([]string{use.GetStoreName(), s.GetPath(), s.GetField()}, "\x00")
			if other, given := from[s.GetEnvVar()]; given && other != source {
				p.add(at+".env_var", "%q is to have two values", s.GetEnvVar())
			}
			from[s.GetEnvVar()] = source
		}
	}
	p.count("secret_stores", n, MaxSecrets)
}

func (p *problems) secretText(at, text string, most int, required bool) {
	switch {
	case text == "" && required:
		p.add(at, "is empty")
	case len(text) > most:
		p.add(at, "%d bytes, the limit is %d", len(text), most)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		p.add(at, "contains a control character")
	}
}

// secretVar checks the variable that a secret goes into. A value that another part of the request gives would be lost, or the secret.
func (p *problems) secretVar(at, name string, l *specpb.Launch) {
	if why := badVariable(name); why != "" {
		p.add(at, "%s", why)
		return
	}
	if _, given := l.GetEnvironmentVariables()[name]; given {
		p.add(at, "%q is also in environment_variables: give it once", name)
	}
}
