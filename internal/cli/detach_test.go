package cli

import (
	"strings"
	"testing"
)

func TestDetachKeys(t *testing.T) {
	for keys, want := range map[string]string{"ctrl-p,ctrl-q": "\x10\x11", "a": "a", "ctrl-@,ctrl-[,~": "\x00\x1b~", `ctrl-\,ctrl-_`: "\x1c\x1f", "": ""} {
		if got, err := detachSequence(keys); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", keys, got, err)
		}
	}
	for _, bad := range []string{",", "ctrl-", "ctrl-1", "ctrl-P", "ctrl-pp", "ab", "é", " ", "a,,b", "\x10", strings.Repeat("a,", 16) + "a"} {
		if got, err := detachSequence(bad); err == nil || !strings.Contains(err.Error(), "--detach-keys") {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
	got := run(t, map[string]string{}, "", "run", "-it", "--detach-keys", "ctrl", "--url", "http://127.0.0.1:1", "--", "true")
	if got.code != 2 || !strings.Contains(got.err, "is no key") {
		t.Errorf("%+v", got)
	}
}

// TestDetacher: the keys are found however they arrive, and whatever else is typed gets through, in order.
func TestDetacher(t *testing.T) {
	for _, c := range []struct {
		keys, typed, out string
		detached         bool
	}{
		{"\x10\x11", "ls\r", "ls\r", false},
		{"\x10\x11", "x\x10\x11rest", "x", true},
		{"\x10\x11", "\x10\x10\x11", "\x10", true},
		{"\x10\x11", "\x10a\x10", "\x10a", false},
		{"aab", "aaab", "a", true},
		{"aab", "aacaab", "aac", true},
		{"abac", "ababac", "ab", true},
		{"", "\x10\x11", "\x10\x11", false},
	} {
		for _, size := range []int{1, 2, len(c.typed)} {
			d := &detacher{keys: []byte(c.keys)}
			var out string
			detached := false
			for at := 0; at < len(c.typed) && !detached; at += size {
				var piece []byte
				piece, detached = d.filter([]byte(c.typed[at:min(at+size, len(c.typed))]))
				out += string(piece)
			}
			if out != c.out || detached != c.detached {
				t.Errorf("%q in %q, %d at a time: %q, %t", c.keys, c.typed, size, out, detached)
			}
		}
	}
}
