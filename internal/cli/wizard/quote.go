package wizard

import "strings"

// Command writes a command line that a shell reads as these words.
func Command(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Quote(w)
	}
	return strings.Join(quoted, " ")
}

// Quote writes a word for a shell. What a terminal would act upon is written as an escape, which bash, zsh and ksh know.
func Quote(word string) string {
	switch {
	case word != "" && strings.Trim(word, plain) == "":
		return word
	case !strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || Visible(string(r)) != string(r) }):
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(word) {
		switch c := word[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c >= ' ' && c < 0x7f:
			b.WriteByte(c)
		default: // three octal digits end by themselves, whatever follows
			b.WriteString(`\` + string([]byte{'0' + c>>6, '0' + c>>3&7, '0' + c&7}))
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// plain are the characters that no shell takes for anything else.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,@%+"
