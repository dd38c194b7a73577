"""A server of its own, of the binary in $BERM with the image in $BERM_PYTHON_IMAGE, for the published client, which is used as it is."""

import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.request
import uuid

import pytest

import cwsandbox
import entered

# From before the client has a thread of its own.
entered.watch()

# How long anything is waited for that must happen.
PATIENCE = 60


def pytest_collection_modifyitems(items):
    """What looks at all that the tests did comes last."""
    items.sort(key=lambda item: item.name == "test_every_public_name_is_entered")


class Server:
    """`berm serve`, which can be killed and started again over the same data."""

    def __init__(self, work: pathlib.Path):
        self.work, self.berm, self.image = work, os.environ["BERM"], os.environ["BERM_PYTHON_IMAGE"]
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        log = open(self.work / "server.log", "ab")
        self.process = subprocess.Popen(
            [self.berm, "serve", "--data", self.work / "data", "--listen", f"127.0.0.1:{self.port}", "--image-alias", "python:3.11=localhost/python:3.11"],
            stdout=log, stderr=log,
        )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(self.url + "/readyz") as r:
                    if r.status == 200:
                        return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError("the server does not start:\n" + (self.work / "server.log").read_text()[-4000:])
            time.sleep(0.05)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    @property
    def token(self) -> str:
        return (self.work / "data" / "admin.token").read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a program that uses this server, and nothing of whoever runs the tests."""
        apart = {"XDG_CONFIG_HOME": str(self.work / "config"), "XDG_STATE_HOME": str(self.work / "state")}
        return {**os.environ, "BERM_URL": self.url, "BERM_TOKEN": self.token, "CWSANDBOX_BASE_URL": self.url, "CWSANDBOX_API_KEY": self.token, **apart}

    def cli(self, *args: str, stdin: str = "") -> str:
        """Runs the CLI and returns what it printed."""
        done = subprocess.run([self.berm, *args], input=stdin, capture_output=True, text=True, env=self.environment)
        assert done.returncode == 0, f"{args}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    s = Server(tmp_path_factory.mktemp("berm"))
    s.start()
    try:
        s.cli("image", "import", s.image, "localhost/python:3.11")
        os.environ["CWSANDBOX_BASE_URL"], os.environ["CWSANDBOX_API_KEY"] = s.url, s.token
        yield s
        for sandbox in cwsandbox.Sandbox.list().result():
            sandbox.stop(missing_ok=True, graceful_shutdown_seconds=0).result()
    finally:
        s.stop()


@pytest.fixture
def tag():
    """A tag of this test alone."""
    return "t-" + uuid.uuid4().hex[:12]


@pytest.fixture
def launch(server, tag):
    """Launches sandboxes, which are stopped after the test."""
    made = []

    def launch(*args, **more):
        sandbox = cwsandbox.Sandbox.run(*args, tags=[tag], **more)
        made.append(sandbox)
        return sandbox

    yield launch
    for sandbox in made:
        sandbox.stop(missing_ok=True, graceful_shutdown_seconds=0).result()


@pytest.fixture(scope="module")
def sandbox(server):
    """One sandbox for the tests of a module that leave it as it was."""
    with cwsandbox.Sandbox.run() as s:
        s.wait(timeout=PATIENCE)
        yield s


def connected() -> bool:
    """Whether the client has a connection: after a failed attempt its library makes no other for a second or two, and fails calls meanwhile."""
    try:
        cwsandbox.list_runners()
        return True
    except cwsandbox.CWSandboxError:
        return False


def eventually(what: str, ok):
    """Polls until something holds."""
    end = time.monotonic() + PATIENCE
    while not (value := ok()):
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.05)
    return value
