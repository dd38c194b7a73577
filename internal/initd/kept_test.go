package initd

import (
	"net"
	"syscall"
	"testing"

	"github.com/hashicorp/yamux"

	"github.com/bermhq/berm/internal/shim/reap"
	"github.com/bermhq/berm/internal/shim/wire"
)

// fullSink has no room until it is drained.
type fullSink chan struct{}

func (s fullSink) Output(wire.Stream, []byte) bool { <-s; return true }
func (s fullSink) Took(int)                        {}

// TestExplainKills: what is to be killed is, though nobody reads why; and its output is not over before that was told.
func TestExplainKills(t *testing.T) {
	r := reap.New(syscall.ForkExec)
	go r.Run()
	pid, done, err := r.Spawn("/bin/sleep", []string{"sleep", "infinity"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setpgid: true}})
	if err != nil {
		t.Fatal(err)
	}
	sink := make(fullSink)
	p := &keptProcess{sink: sink, execution: execution{daemon: &daemon{reaper: r}, child: &child{pid: pid, done: done}}}
	go p.explain(wire.Errorf(wire.CodeExecFailed, "it has to go"))
	if exit := p.Wait(); exit.Signal != int(syscall.SIGKILL) {
		t.Errorf("%+v", exit)
	}
	drained := make(chan struct{})
	go func() { p.Drain(); close(drained) }()
	select {
	case <-drained:
		t.Error("its output was over before it was told why")
	case sink <- struct{}{}:
	}
	<-drained
}

// TestVisitEndsTwice: a sandbox may be saved again while who was attached the first time is still being told.
func TestVisitEndsTwice(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	session, err := yamux.Client(ours, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	go func() { _, _ = yamux.Server(theirs, nil) }()
	s, err := session.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	v := &keptVisit{stream: &stream{Stream: s}, stop: make(chan struct{})}
	v.endSaved()
	v.endSaved()
	if !isClosed(v.stop) {
		t.Error("it goes on")
	}
}
