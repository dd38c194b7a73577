"""Create to first output through the published client, with the same calls on the wire beside it. Not a test of `make clients`: run it by
`script/bench-clients`, on a machine that does nothing else. Each figure is of sandboxes made one after another; removing them is not in it."""

import json
import os
import time

import cwsandbox

COUNT = int(os.environ.get("COUNT", "50"))
# How often the two ways take turns.
TURNS = 5


def percentile(all: list[float], p: int) -> float:
    return sorted(all)[min(len(all) - 1, len(all) * p // 100)]


def first_output() -> float:
    began = time.monotonic()
    sandbox = cwsandbox.Sandbox.run()
    try:
        process = sandbox.exec(["echo", "hi"])
        assert next(iter(process.stdout)) == "hi\n"
        took = time.monotonic() - began
        assert process.result().returncode == 0
        return took * 1000
    finally:
        sandbox.stop(graceful_shutdown_seconds=0).result()


def on_the_wire(server, count: int) -> list[float]:
    """The medians of as many starts by `berm bench`, whose client takes next to nothing."""
    figures = json.loads(server.cli("bench", "start", "--count", str(count), "--image", "python:3.11", "-o", "json"))
    [figure] = [f for f in figures if f["measure"] == "create to first output"]
    assert figure["lost"] == 0
    return [figure["p50Ms"]]


def test_start(server):
    first_output()
    client, wire = [], []
    for _ in range(TURNS):
        client += [first_output() for _ in range(COUNT // TURNS)]
        wire += on_the_wire(server, COUNT // TURNS)
    print(f"\ncreate to first output by the client: p50 {percentile(client, 50):.1f} ms, p99 {percentile(client, 99):.1f} ms, of {len(client)}")
    print(f"the same calls on the wire: p50 {percentile(wire, 50):.1f} ms (median of {TURNS} medians)")
