package initd

import (
	"os"
	"syscall"

	"github.com/bermhq/berm/internal/shim/wire"
)

// runMain starts the main process and stays until it ends. Its output goes straight to the shim's pipes.
func (d *daemon) runMain(s *stream, req wire.Request) {
	c, werr := d.startMain(req)
	if werr != nil {
		s.fail(werr)
		return
	}
	_ = wire.WriteJSON(s, wire.TypeStarted, wire.Started{PID: c.pid})
	ws := <-c.done
	d.mainStatus = ws
	close(d.mainOver)
	// The shim trusts only what it sees itself; this tells it whether a code above 128 was a signal.
	_ = wire.WriteJSON(s, wire.TypeExit, exitOf(ws))
	d.mainEnded <- ws
	// Process 1 stays until the shim has read it, which then hangs up, or until flushTimeout: what the shim writes to a process
	// that is gone breaks the connection, and with it what is still to be read.
	_, _ = s.frames.Read()
}

func (d *daemon) startMain(req wire.Request) (*child, *wire.Error) {
	d.mainMu.Lock()
	defer d.mainMu.Unlock()
	if d.main != nil {
		return nil, wire.Errorf(wire.CodeInvalid, "the main process was started before")
	}
	c, err := d.spawn(req, spawnFiles{stdin: d.empty, stdout: d.mainFiles[0], stderr: d.mainFiles[1]})
	if err != nil {
		return nil, err
	}
	// From here on only the main process and its children hold the pipes, so that their end is the end of the output.
	for _, fd := range d.mainFiles {
		closeFD(fd)
	}
	d.main = c
	return c, nil
}

// stop asks the main process to end; without one the sandbox ends.
func (d *daemon) stop() {
	if !d.signalMain(syscall.SIGTERM) {
		d.stopOnce.Do(func() { close(d.stopped) })
	}
}

// signalMain reports whether there is a main process.
func (d *daemon) signalMain(sig syscall.Signal) bool {
	d.mainMu.Lock()
	c := d.main
	d.mainMu.Unlock()
	if c == nil {
		return false
	}
	d.reaper.Kill(c.pid, true, sig)
	return true
}

// signals acts on what was caught.
func (d *daemon) signals(c <-chan os.Signal) {
	for s := range c {
		switch s {
		case syscall.SIGCHLD:
			d.reaper.Wake()
		case syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH:
			d.signalMain(s.(syscall.Signal))
		}
	}
}
