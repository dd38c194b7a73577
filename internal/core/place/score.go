package place

// Weights of a score; they add up to 1, and a score is between 0 and 1. Room counts most: it is what the next launches
// need. The number of sandboxes tells runners apart that reserve nothing. Groups are no part of it: those that a profile puts in an
// order are tried in that order, however much room each has.
const (
	weightFree = 0.8
	weightFew  = 0.2
)

// Score says how good h is for a sandbox with these needs that fits there. Larger is better.
func Score(h *Host, n *Need) float64 {
	s := weightFree * free(h, n)
	return s + weightFew/float64(1+max(h.Used.Sandboxes, 0))
}

// free returns the part of the scarcest resource that is left after placement, from 0 to 1. Sandboxes are counted apart.
func free(h *Host, n *Need) float64 {
	left := 1.0
	part := func(used, add, total int64) {
		if total > 0 {
			left = min(left, float64(total-used-add)/float64(total))
		}
	}
	part(h.Used.CPUMillis, n.Reserve.CPUMillis, h.Capacity.CPUMillis)
	part(h.Used.MemoryBytes, n.Reserve.MemoryBytes, h.Capacity.MemoryBytes)
	if n.Reserve.GPUs > 0 {
		part(h.Used.GPUs, n.Reserve.GPUs, h.Capacity.GPUs)
	}
	return max(left, 0)
}

// Option is a runner that could take the sandbox.
type Option struct {
	ID    string
	Score float64
}

// Draw returns the runner's place in the lottery of this seed. Two runners of the lowest draws are compared by score: the
// power of two choices keeps a fleet even without sending every launch of a burst to the one emptiest runner. Because the
// draw depends on seed and name alone, an option that turns out to be impossible is passed over without changing the rest.
func Draw(seed uint64, id string) uint64 {
	// FNV-1a over the name, keyed by the seed, then the finaliser of SplitMix64: names that differ in one letter end far apart.
	h := uint64(14695981039346656037) ^ mix(seed)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return mix(h)
}

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Better reports whether a beats b: the higher score, then the name that sorts first.
func Better(a, b Option) bool {
	if a.Score != b.Score {
		return a.Score > b.Score
	}
	return a.ID < b.ID
}

// Choose returns the indexes of the two options that are compared, the winner first; the second is -1 when there is one
// option only, both are when there is none.
func Choose(seed uint64, options []Option) (winner, other int) {
	first, second := -1, -1
	var firstDraw, secondDraw uint64
	for i := range options {
		draw := Draw(seed, options[i].ID)
		switch {
		case first < 0 || before(draw, options[i].ID, firstDraw, options[first].ID):
			first, second, firstDraw, secondDraw = i, first, draw, firstDraw
		case second < 0 || before(draw, options[i].ID, secondDraw, options[second].ID):
			second, secondDraw = i, draw
		}
	}
	if second >= 0 && Better(options[second], options[first]) {
		return second, first
	}
	return first, second
}

// before orders draws; equal ones, which hardly occur, by name.
func before(draw uint64, id string, than uint64, thanID string) bool {
	return draw < than || draw == than && id < thanID
}
