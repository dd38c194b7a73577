#!/usr/bin/env python3
# shell.py BERM SANDBOX: a person at a terminal, in `berm shell`: the window's size, job control, interrupts, the exit code, and the
# terminal as it was afterwards. Prints what is wrong and exits 1, or nothing.
import fcntl, os, pty, re, select, struct, subprocess, sys, termios, time

PATIENCE = 30
main, side = pty.openpty()
fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
before = termios.tcgetattr(side)
shell = subprocess.Popen([sys.argv[1], "shell", sys.argv[2]], stdin=side, stdout=side, stderr=side, start_new_session=True,
                         preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
seen = b""


def fail(what):
    print(f"{what}; the terminal shows {seen[-600:]!r}")
    shell.kill()
    sys.exit(1)


def expect(pattern):
    """reads until the pattern has come, and forgets what came before its end"""
    global seen
    end = time.monotonic() + PATIENCE
    while True:
        found = re.search(pattern, seen)
        if found:
            seen = seen[found.end():]
            return
        if time.monotonic() > end:
            fail(f"{pattern!r} never came")
        if select.select([main], [], [], 0.1)[0]:
            seen += os.read(main, 4096)


def type_(text):
    os.write(main, text)


type_(b"echo re''ady\n")
expect(rb"[\r\n]ready")
type_(b"stty size\n")
expect(rb"33 99")
fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0))
type_(b"while [ \"$(stty size)\" != '44 88' ]; do sleep 0.05; done; echo re''sized\n")
expect(rb"[\r\n]resized")
type_(b"sleep 1000; echo ca''me: $?\n")
time.sleep(0.5)
type_(b"\x1a")
expect(rb"(?i)stopped")
type_(b"jobs; fg\n")
expect(rb"(?i)stopped[^\n]*sleep 1000[^$]*sleep 1000\r\n")
time.sleep(0.5)
type_(b"\x03")
type_(b"echo still he''re\n")
expect(rb"[\r\n]still here")
type_(b"exit 7\n")
try:
    code = shell.wait(PATIENCE)
except subprocess.TimeoutExpired:
    fail("the shell does not end")
if code != 7:
    fail(f"exit code {code}")
if termios.tcgetattr(side) != before:
    fail("the terminal is not as it was")
