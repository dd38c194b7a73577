"""Python functions that run in sandboxes."""

import pytest

import cwsandbox


@pytest.fixture(scope="module")
def session(server):
    with cwsandbox.Session() as s:
        yield s


def test_value(session):
    @session.function()
    def add(a, b):
        return a + b

    assert add.remote(2, 3).result() == 5
    assert add.local(2, 3) == 5


def test_map(session):
    @session.function()
    def square(n):
        return n * n

    assert [r.result() for r in square.map([(n,) for n in range(5)])] == [0, 1, 4, 9, 16]


def test_exception(session):
    @session.function()
    def broken():
        raise ValueError("the reason")

    with pytest.raises(cwsandbox.SandboxExecutionError) as e:
        broken.remote().result()
    assert e.value.exception_type == "ValueError"
    assert "the reason" in str(e.value.exception_message)


def test_large_argument(session):
    @session.function()
    def count(data):
        return len(data)

    assert count.remote("x" * (1 << 20)).result() == 1 << 20
