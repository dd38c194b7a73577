"""Runs the console blocks of a page in one shell and compares what it prints with what the page says: tutorial.py PAGE.

Lines that begin with "$ " are commands, with "> " their further lines, all others their output. Of white space only that there is some counts;
"…" stands for any text in a line, a line that is nothing else for any further lines. Ends with `N passed, N failed`.
"""
import re
import subprocess
import sys

MARK = "--- end of the answer"


def steps(page):
    """The commands of a page, each with the output that it shows."""
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.M | re.S):
        command, wanted = None, []
        for line in block.splitlines():
            if line.startswith("$ "):
                if command:
                    yield command, wanted
                command, wanted = line[2:], []
            elif line.startswith("> "):
                command += "\n" + line[2:]
            else:
                wanted.append(line)
        yield command, wanted


def pattern(wanted):
    lines = []
    for line in wanted:
        if line == "…":
            lines.append(r"(?:[^\n]*\n)*")
        else:
            words = [".*?".join(map(re.escape, word.split("…"))) for word in line.split()]
            lines.append(r"[ \t]*" + r"[ \t]+".join(words) + r"[ \t]*\n")
    return re.compile("".join(lines))


def main(path):
    passed = failed = 0
    shell = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with open(path, encoding="utf-8") as page:
        todo = list(steps(page.read()))
    for command, wanted in todo:
        print(f'{command}\n_code=$?; echo "{MARK}"; (exit $_code)', file=shell.stdin, flush=True)
        got = ""
        for line in shell.stdout:
            if line.strip() == MARK:
                break
            got += line
        if pattern(wanted).fullmatch(got):
            passed += 1
            print("ok     ", command.splitlines()[0])
        else:
            failed += 1
            print("FAILED ", command, "\n  the page says:\n" + "\n".join(wanted), "\n  it printed:\n" + got)
    shell.stdin.close()
    shell.wait()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or passed < 10 else 0


sys.exit(main(sys.argv[1]))
