package tree

import "strings"

// Suggest returns the candidate that name is most likely a misspelling of, or "". Case, dashes and underscores do not
// count; a transposition counts once. Of equally near candidates the first wins.
func Suggest(name string, candidates []string) string {
	const longest = 64
	if name == "" || len(name) > longest {
		return ""
	}
	best, bestAt := "", max(1, len(name)/3)+1
	plain := flatten(name)
	for _, c := range candidates {
		if len(c) > longest {
			continue
		}
		if d := distance(plain, flatten(c)); d < bestAt {
			best, bestAt = c, d
		}
	}
	return best
}

func flatten(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// distance is the optimal string alignment distance in bytes.
func distance(a, b string) int {
	prev2 := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}
