package userns

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// orphaning makes the test's binary one that is killed in the middle.
const orphaning = "BERM_TEST_ORPHAN"

func TestMain(m *testing.M) {
	if os.Getenv(orphaning) == "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread()
	pid, err := startAs(0x70000000)
	fmt.Println(pid, err)
	select {}
}

// TestOrphan: with the process that makes a namespace, wherever it is killed, the one in the namespace ends.
func TestOrphan(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), orphaning+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	text, why, _ := strings.Cut(strings.TrimSpace(line), " ")
	pid, parseErr := strconv.Atoi(text)
	if err != nil || parseErr != nil || why != "<nil>" || pid <= 1 {
		t.Fatalf("%q %v", line, err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it was not killed")
	}
	const patience = time.Minute
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || strings.Contains(string(status), "State:\tZ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is left: %s", status)
		}
	}
}
