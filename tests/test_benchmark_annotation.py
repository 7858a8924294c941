"""The annotation engine at scale, by the benchmark that measures it."""

import json
import subprocess
import sys

import pytest
from fault_server import CONTENT, TRANSPORT
from trees import ROOT

BENCHMARK = ROOT / "benchmarks" / "annotation.py"
SECONDS = 600


def measure(*flags):
    """What the benchmark prints; in a process of its own, whose memory it measures."""
    command = [sys.executable, BENCHMARK, "--json", *flags]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=ROOT, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert (found["lost"], found["twice"]) == (0, 0)
    assert found["annotated"] + sum(found["failed"].values()) == found["records"]
    return found


def test_figures_of_a_few_records():
    flags = ["--records", 60, "--serial_records", 4, "--concurrency", 16, "--latency", 0.05]
    found = measure(*flags, "--stall", 0.1, "--timeout_seconds", 60)
    assert found["requests"] == sum(found["faults"].values()) >= 60
    assert found["ideal_seconds"] == pytest.approx(found["requests"] * 0.05 / 16)
    # here no stall is longer than the client's patience: each takes 0.05 seconds more
    more = 0.05 * found["faults"].get("stall", 0) / 16
    assert found["ideal_with_stalls_seconds"] == pytest.approx(found["ideal_seconds"] + more)
    assert found["over_ideal"] == pytest.approx(found["seconds"] / found["ideal_seconds"])
    serial = found["times_serial"] * found["serial_per_second"]
    assert found["records_per_second"] == pytest.approx(serial)
    assert found["serial_records"] == 4


@pytest.mark.slow
def test_two_thousand_records_among_every_fault():
    """A latency, time-outs and stalls of seconds: a loaded machine is measured here as well."""
    flags = ["--records", 2000, "--concurrency", 64, "--latency", 1]
    found = measure(*flags, "--stall", 5, "--timeout_seconds", 2)
    assert set(found["faults"]) == {"none", *TRANSPORT, *CONTENT}
    assert found["annotated"] > 1900
    assert found["peak_megabytes"] < 1000
    assert found["over_ideal"] < 1.3
    assert found["times_serial"] > 20
