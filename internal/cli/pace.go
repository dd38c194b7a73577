package cli

import (
	"fmt"
	"time"
)

// progressEvery is how often progress is shown.
const progressEvery = 100 * time.Millisecond

// pace says when progress is due, and how fast something goes.
type pace struct{ began, shown time.Time }

func newPace() pace {
	now := time.Now()
	return pace{began: now, shown: now}
}

// due reports that it is time to show progress again.
func (p *pace) due() bool {
	now := time.Now()
	if now.Sub(p.shown) < progressEvery {
		return false
	}
	p.shown = now
	return true
}

// rate is bytes per second so far, 0 before it can be said.
func (p *pace) rate(bytes int64) int64 {
	took := time.Since(p.began)
	if took < progressEvery {
		return 0
	}
	return int64(float64(bytes) / took.Seconds())
}

// byteText shows a number of bytes as people do.
func byteText(n int64) string {
	const kilo = 1000
	if n < kilo {
		return fmt.Sprintf("%d bytes", n)
	}
	v, units := float64(n)/kilo, "kMGTPE"
	for ; v >= kilo && len(units) > 1; v /= kilo {
		units = units[1:]
	}
	return fmt.Sprintf("%.1f %cB", v, units[0])
}
