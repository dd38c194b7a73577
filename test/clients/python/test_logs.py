"""Output of the main process."""

import datetime

from conftest import PATIENCE


def test_from_the_first_byte(launch):
    sandbox = launch("sh", "-c", "echo first; echo second >&2; sleep infinity")
    sandbox.wait(timeout=PATIENCE)
    lines = []
    for line in sandbox.stream_logs(follow=True):
        lines.append(line)
        if len(lines) == 2:
            break
    assert sorted(lines) == ["first\n", "second\n"]


def test_follow_until_the_end(launch):
    sandbox = launch("sh", "-c", "for i in $(seq 20); do echo $i; sleep 0.02; done")
    sandbox.wait(timeout=PATIENCE)
    assert list(sandbox.stream_logs(follow=True)) == [f"{i}\n" for i in range(1, 21)]


def test_after_the_end(launch):
    sandbox = launch("sh", "-c", "seq 100; exit 2")
    sandbox.wait_until_complete(timeout=PATIENCE).result()
    assert list(sandbox.stream_logs()) == [f"{i}\n" for i in range(1, 101)]
    assert list(sandbox.stream_logs(tail_lines=2)) == ["99\n", "100\n"]
    stamp, text = list(sandbox.stream_logs(tail_lines=1, timestamps=True))[0].split(" ", 1)
    assert text == "100\n"
    assert datetime.datetime.fromisoformat(stamp) <= datetime.datetime.now(datetime.UTC)


def test_not_what_commands_print(launch):
    sandbox = launch()
    sandbox.exec(["echo", "of a command"]).result()
    assert list(sandbox.stream_logs()) == []
