"""The examples of docs/clients.md."""

import pathlib
import re

import pytest

TEXT = (pathlib.Path(__file__).parents[3] / "docs" / "clients.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(server, tmp_path, number):
    # A function of a session is found by its source, so that it needs a file.
    file = tmp_path / f"example{number}.py"
    file.write_text(EXAMPLES[number])
    exec(compile(EXAMPLES[number], str(file), "exec"), {"__name__": "__main__"})


def test_there_are_examples():
    assert len(EXAMPLES) >= 3
