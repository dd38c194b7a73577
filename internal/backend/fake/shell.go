package fake

import (
	"os"
	"path"
	"strconv"
	"strings"
)

// special ends a plain run of characters in a script.
const special = " \t'\"|<`(){}"

// shell runs `sh -c SCRIPT` for scripts that are no more than built-in programs, exit, kill and cd, joined by ; or &&, with
// quotes, $NAME and output to standard error. That is what tests need; a script beyond it fails with code 2 and says so.
func shell(i *invocation) int32 {
	at := 1
	for at < len(i.argv) && strings.HasPrefix(i.argv[at], "-") && !strings.Contains(i.argv[at], "c") {
		at++
	}
	if at+1 >= len(i.argv) {
		return i.fail(2, "sh: the fake backend has no interactive shell, only sh -c SCRIPT")
	}
	script := strings.NewReplacer("\n", ";", "&&", ";&").Replace(i.argv[at+1])
	var code int32
	for statement := range strings.SplitSeq(script, ";") {
		statement, chained := strings.CutPrefix(strings.TrimSpace(statement), "&")
		if chained && code != 0 {
			continue
		}
		words, ok := i.words(statement)
		if !ok {
			return i.fail(2, "sh: the fake backend does not understand %q", statement)
		}
		if len(words) == 0 {
			continue
		}
		var ended bool
		if code, ended = i.statement(words); ended {
			return code
		}
		if i.dead() {
			return exitKilled
		}
	}
	return code
}

// statement runs one command and reports whether it ended the shell.
func (i *invocation) statement(words []string) (int32, bool) {
	switch words[0] {
	case "exit":
		if len(words) == 1 {
			return 0, true
		}
		n, err := strconv.Atoi(words[1])
		if err != nil {
			return i.fail(2, "sh: exit: %q is no number", words[1]), true
		}
		return int32(n & 0xff), true
	case "kill":
		if len(words) == 3 && words[2] == "$$" {
			if words[1] == "-KILL" || words[1] == "-9" {
				return exitKilled, true
			}
			return exitTerminated, true
		}
		return i.fail(2, "sh: kill: only the shell itself"), true
	case "cd":
		if len(words) != 2 || !i.files.isDir(path.Join(i.dirFor(words[1]), words[1])) {
			return i.fail(2, "sh: cd: no such directory"), false
		}
		i.dir = path.Join(i.dirFor(words[1]), words[1])
		return 0, false
	}
	sub := *i
	if words[len(words)-1] == ">&2" || words[len(words)-1] == "1>&2" {
		sub.out, words = i.err, words[:len(words)-1]
	}
	sub.argv = words
	program := lookup(words)
	if program == nil {
		return i.fail(127, "sh: %s: not found", words[0]), false
	}
	return program(&sub), false
}

func (i *invocation) dead() bool {
	select {
	case <-i.process.killed:
		return true
	default:
		return false
	}
}

// words splits a statement at blanks, honours quotes and expands $NAME. It refuses what it would get wrong.
func (i *invocation) words(s string) ([]string, bool) {
	var words []string
	var word strings.Builder
	started := false
	for at := 0; at < len(s); at++ {
		switch c := s[at]; c {
		case ' ', '\t':
			if started {
				words = append(words, word.String())
				word.Reset()
				started = false
			}
		case '\'', '"':
			end := strings.IndexByte(s[at+1:], c)
			if end < 0 {
				return nil, false
			}
			text := s[at+1 : at+1+end]
			if c == '"' {
				text = i.expand(text)
			}
			word.WriteString(text)
			started = true
			at += end + 1
		case '|', '<', '`', '(', ')', '{', '}':
			return nil, false
		default:
			end := at + 1
			for end < len(s) && !strings.ContainsRune(special, rune(s[end])) {
				end++
			}
			word.WriteString(i.expand(s[at:end]))
			started = true
			at = end - 1
		}
	}
	if started {
		words = append(words, word.String())
	}
	return words, true
}

func (i *invocation) expand(s string) string {
	return os.Expand(s, func(name string) string {
		if name == "$" {
			return "$$"
		}
		return i.env[name]
	})
}
