#!/usr/bin/env python3
# terminal.py CASE CODE COMMAND...: a person at a terminal of their own, in which COMMAND opens a shell in a sandbox. CASE is what happens:
#   session   the window's size and its changes, job control, interrupts; `exit CODE`
#   detach    ctrl-p ctrl-q with a command under way; KEYS in the environment has other keys
#   signal N  the CLI gets signal N
#   event     $EVENT, a shell command, is run meanwhile: the server is killed, the sandbox stopped
# Then the exit code must be CODE and the terminal as it was. Prints what is wrong and exits 1, or what COMMAND said last.
import fcntl, os, pty, re, select, struct, subprocess, sys, termios, time

PATIENCE = 60
PROMPT = rb"[$#] "
case, code, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
main, side = pty.openpty()
fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
before = termios.tcgetattr(side)
cli = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, start_new_session=True,
                       preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
seen = b""


def fail(what):
    print(f"{what}; the terminal shows {seen[-600:]!r}")
    cli.kill()
    sys.exit(1)


def more(timeout):
    global seen
    if select.select([main], [], [], timeout)[0]:
        seen += os.read(main, 4096)
        return True
    return False


def expect(pattern):
    """reads until the pattern has come, and forgets what came before its end"""
    global seen
    end = time.monotonic() + PATIENCE
    while not (found := re.search(pattern, seen)):
        if time.monotonic() > end:
            fail(f"{pattern!r} never came")
        more(0.1)
    seen = seen[found.end():]


def type_(text):
    os.write(main, text)


def interrupt():
    """types Ctrl-C until the prompt comes: fg says what goes on before it gives it the terminal, and what is typed between goes nowhere"""
    global seen
    for _ in range(PATIENCE):
        type_(b"\x03")
        end = time.monotonic() + 1
        while time.monotonic() < end:
            if found := re.search(PROMPT, seen):
                seen = seen[found.end():]
                return
            more(0.1)
    fail("no prompt after an interrupt")


def session():
    type_(b"stty size\n")
    expect(rb"33 99")
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0))
    type_(b"while [ \"$(stty size)\" != '44 88' ]; do sleep 0.05; done; echo re''sized\n")
    expect(rb"[\r\n]resized")
    # A program is told of it: SIGWINCH comes to whoever has the terminal.
    type_(b"bash -c 'trap \"echo to''ld; exit\" WINCH; echo wait''ing; while :; do sleep 0.05; done'\n")
    expect(rb"[\r\n]waiting")
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 55, 77, 0, 0))
    expect(rb"[\r\n]told")
    # Ctrl-Z stops the program in the foreground, fg takes it there again, Ctrl-C ends it and not the shell.
    type_(b"bash -c 'echo be''gun; exec sleep 1000'\n")
    expect(rb"[\r\n]begun")
    type_(b"\x1a")
    expect(rb"(?i)stopped")
    type_(b"jobs; echo li''sted; fg\n")
    expect(rb"(?i)stopped[^$]*listed\r\n[^\n]*\r\n")
    interrupt() # What is typed before the prompt may go with it, as at any terminal.
    type_(b"echo still he''re\n")
    expect(rb"[\r\n]still here")
    type_(b"sleep 1001 & bash -c 'trap \"echo caug''ht; exit\" INT; echo be''gun; while :; do sleep 0.05; done'\n")
    expect(rb"[\r\n]begun")
    type_(b"\x03")
    expect(rb"caught")
    expect(PROMPT)
    type_(b"jobs; echo li''sted\n") # What runs in the background got no Ctrl-C.
    expect(rb"Running[^\n]*sleep 1001[^$]*listed")
    type_(f"kill %1; exit {code}\n".encode())


def detach():
    type_(b"bash -c 'echo be''gun; exec sleep 4321'\n")
    expect(rb"[\r\n]begun")
    type_(os.environ.get("KEYS", "\x10\x11").encode())


type_(b"echo re''ady\n")
expect(rb"[\r\n]ready")
match case:
    case "session":
        session()
    case "detach":
        detach()
    case "event":
        subprocess.run(["bash", "-c", os.environ["EVENT"]], stdout=subprocess.DEVNULL, check=True)
    case _ if case.startswith("signal "):
        cli.send_signal(int(case.split()[1]))
end = time.monotonic() + PATIENCE
while cli.poll() is None:
    more(0.1)
    if time.monotonic() > end:
        fail("the CLI does not end")
while more(0.1):
    pass
if cli.returncode != code:
    fail(f"exit code {cli.returncode}, want {code}")
if termios.tcgetattr(side) != before:
    fail("the terminal is not as it was")
print(seen.decode(errors="replace").replace("\r", "").strip().split("\n")[-1])
