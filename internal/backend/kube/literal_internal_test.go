package kube

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// expand does what the kubelet does with a command, argument or value, as Kubernetes documents it: $(NAME) is replaced by a
// variable that exists, $$ is one $, and everything else stays.
func expand(s string, vars map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		rest := s[i:]
		switch {
		case strings.HasPrefix(rest, "$$"):
			b.WriteByte('$')
			i += 2
		case strings.HasPrefix(rest, "$(") && strings.Contains(rest, ")"):
			end := strings.IndexByte(rest, ')')
			if value, ok := vars[rest[2:end]]; ok {
				b.WriteString(value)
			} else {
				b.WriteString(rest[:end+1])
			}
			i += end + 1
		default:
			b.WriteByte(s[i])
			i++
		}
	}
	return b.String()
}

// TestExpansionWouldChangeText shows that there is something to protect from.
func TestExpansionWouldChangeText(t *testing.T) {
	vars := map[string]string{"date": "today"}
	for in, want := range map[string]string{"kill $$": "kill $", "echo $(date)": "echo today", "$$(date)": "$(date)", "$HOME": "$HOME", "5$": "5$"} {
		if got := expand(in, vars); got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLiteralSurvivesExpansion(t *testing.T) {
	vars := map[string]string{"": "empty", "a": "A", "$": "dollar", "a(": "odd"}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.StringMatching(`[$()a ]{0,12}`), rapid.String()).Draw(t, "s")
		if got := expand(literal(s), vars); got != s {
			t.Fatalf("%q arrives as %q", s, got)
		}
	})
}
