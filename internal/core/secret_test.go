package core_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core"
)

// TestSecretValuesHide: however one is printed, alone or within something, the value is not there.
func TestSecretValuesHide(t *testing.T) {
	const canary = "hunter2-canary"
	in := struct{ Secrets []core.Secret }{[]core.Secret{{EnvVar: "A", Value: canary}}}
	var logs bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&logs, nil), slog.NewJSONHandler(&logs, nil)} {
		slog.New(h).Info("x", "in", in, "value", in.Secrets[0].Value)
	}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	all := logs.String() + string(text)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		all += fmt.Sprintf(format+" "+format+" ", in, in.Secrets[0].Value)
	}
	if strings.Contains(all, canary) || strings.Contains(all, fmt.Sprintf("%x", canary)) || !strings.Contains(all, "(secret)") {
		t.Error(all)
	}
}
