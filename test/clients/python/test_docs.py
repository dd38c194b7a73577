"""docs/clients.md: its examples run as they stand, from top to bottom, and its table of the client's own examples leads to them."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

TEXT = (pathlib.Path(__file__).parents[3] / "docs" / "clients.md").read_text()
SECTIONS = {title: body for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)}
EXAMPLES = [(title, language, code) for title, body in SECTIONS.items() for language, code in re.findall(r"^```(python|sh)\n(.*?)^```", body, re.M | re.S)]


def name(example):
    title, language, _ = example
    return f"{EXAMPLES.index(example)} {title}, {language}"


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_example(server, tmp_path, example):
    _, language, code = example
    # A function of a session is found by its source, so that it needs a file.
    file = tmp_path / f"example.{language}"
    file.write_text(code)
    if language == "python":
        exec(compile(code, str(file), "exec"), {"__name__": "__main__"})
        return
    path = os.pathsep.join([str(pathlib.Path(server.berm).parent), str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(["bash", "-euo", "pipefail", file], env={**server.environment, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def anchor(title):
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def test_the_table_of_examples_leads_to_some():
    shown = {anchor(title) for title, _, _ in EXAMPLES}
    table = SECTIONS["The client's own examples"]
    links = set(re.findall(r"\(#([^)]+)\)", table))
    assert links <= shown, "these sections have no example"
    assert shown <= links, "these sections are of no example of the client's"
