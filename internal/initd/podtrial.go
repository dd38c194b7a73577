package initd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// A runner tries what its cluster enforces with pods of its own: some answer, others try to reach them. What they say is an exit code, which
// the node tells.

// TrialCode is the exit code of who reached nothing; each bit above says that the host of that place was reached.
const TrialCode = 100

const (
	trialPause   = 200 * time.Millisecond
	trialTimeout = 3 * time.Second
)

// Answer takes connections at a port, for as long as it may.
func Answer(port string) int {
	l, err := net.Listen("tcp", ":"+port) //nolint:noctx // for as long as the process
	if err != nil {
		fmt.Fprintf(os.Stderr, "berm answer: %v\n", err)
		return 1
	}
	for {
		c, err := l.Accept()
		if err != nil {
			time.Sleep(trialPause)
			continue
		}
		_ = c.Close()
	}
}

// Reach tries again and again to connect to addresses, for so many seconds, and returns which it reached last: what is enforced may come
// into force some moments after the pod.
func Reach(seconds string, addrs []string) int {
	n, err := strconv.Atoi(seconds)
	if err != nil || len(addrs) == 0 || len(addrs) > 5 {
		fmt.Fprintln(os.Stderr, "berm reach: want seconds, and one to five addresses")
		return 1
	}
	reached := make([]bool, len(addrs))
	var all sync.WaitGroup
	for i, addr := range addrs {
		all.Go(func() {
			for end := time.Now().Add(time.Duration(n) * time.Second); ; time.Sleep(trialPause) {
				c, err := net.DialTimeout("tcp", addr, trialTimeout)
				if reached[i] = err == nil; reached[i] {
					_ = c.Close()
				}
				if time.Now().After(end) {
					return
				}
			}
		})
	}
	all.Wait()
	code := TrialCode
	for i, r := range reached {
		if r {
			code += 1 << i
		}
	}
	return code
}
