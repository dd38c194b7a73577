package initd

import (
	"runtime"
	"sync"
)

// The Go runtime makes a thread whenever all it has are blocked in system calls, and gives up when it cannot. In a sandbox
// whose processes have used up the limit of processes, that would end the init and the sandbox with it. So all threads that
// can ever be needed are made at the start, and what may block is bounded.
const (
	// maxFileCalls is how many system calls on files are made at once; more wait their turn.
	maxFileCalls = 4
	// threads is what is made: the processors, the runtime's monitor and helper, the waits for signals and for children, one
	// process that is being started, and the calls above.
	threads = maxProcs + 2 + 2 + 1 + maxFileCalls
)

// makeThreads makes the threads and leaves them to the runtime, which keeps idle ones for ever.
func makeThreads() {
	var here, gone sync.WaitGroup
	release := make(chan struct{})
	for range threads {
		here.Add(1)
		gone.Go(func() {
			runtime.LockOSThread() // While locked and waiting, a goroutine keeps its thread from the others.
			here.Done()
			<-release
			runtime.UnlockOSThread()
		})
	}
	here.Wait()
	close(release)
	gone.Wait()
}

// files bounds system calls on files.
type files chan struct{}

// call makes system calls on files in its turn.
func (f files) call(do func()) {
	f <- struct{}{}
	defer func() { <-f }()
	do()
}
