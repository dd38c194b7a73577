package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretValues(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, []byte("pem\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(in string, fields ...string) (map[string][]byte, error) {
		return (&session{Stdio: Stdio{In: strings.NewReader(in)}}).secretValues(fields)
	}
	for in, want := range map[string]string{"a\n": "a", "a\r\n": "a", "a\n\n": "a\n", "a": "a"} {
		if got, err := read(in); err != nil || string(got["value"]) != want {
			t.Errorf("%q: %q, %v", in, got["value"], err)
		}
	}
	got, err := read("x\n", "user", "pem=@"+file)
	if err != nil || string(got["user"]) != "x" || string(got["pem"]) != "pem\n" || len(got) != 2 {
		t.Errorf("%q, %v", got, err)
	}
	for name, fields := range map[string][]string{
		"a value":       {"a=hunter2"},
		"twice":         {"a", "a=@" + file},
		"two of stdin":  {"a", "b"},
		"no name":       {"=@" + file},
		"no such file":  {"a=@/nowhere/x"},
		"large on disk": {"a=@/dev/zero"},
	} {
		if got, err := read("x", fields...); err == nil {
			t.Errorf("%s: %q", name, got)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the value is in the error: %v", name, err)
		}
	}
}

func TestSecretRefs(t *testing.T) {
	refs, err := secretRefs([]string{"A=team/prod/db#user", "B=other/x", "C=team/y"})
	if err != nil || len(refs) != 2 || refs[0].GetStoreName() != "team" || len(refs[0].GetSecrets()) != 2 {
		t.Fatalf("%v, %v", refs, err)
	}
	if m := refs[0].GetSecrets()[0]; m.GetPath() != "prod/db" || m.GetField() != "user" || m.GetEnvVar() != "A" {
		t.Errorf("%v", m)
	}
	for _, wrong := range []string{"", "A", "A=team", "A=/x", "=team/x", "A=team/", "A=team/x#"} {
		if _, err := secretRefs([]string{wrong}); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}
