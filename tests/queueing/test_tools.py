"""What other load generators say is read as they say it."""

import json

import pytest

from queueing import Fixed, QueueServerProcess
from queueing.tools import (
    TOOLS,
    Load,
    read_autocannon,
    read_h2load,
    read_hey,
    read_wrk,
    wrk_corrected,
)

WRK = """\
Running 5s test @ http://127.0.0.1:1/deployment/queue/forward
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    20.40ms    4.20ms  56.75ms   89.11%
  999 requests in 5.01s, 51.45KB read
p50 19996
p90 20960
p99 27869
requests 999 in 5005000
"""
HEY = """\
Summary:
  Requests/sec:\t199.6404

Latency distribution:
  10% in 0.0197 secs
  50% in 0.0200 secs
  90% in 0.0202 secs
  99% in 0.0240 secs

Status code distribution:
  [200]\t603 responses
"""
H2LOAD = "finished in 3.00s, 199.67 req/s, 17.74KB/s\nrequests: 3 total, 3 started, 3 done\n"
LOG = "1795629521454941\t200\t5755\n1795629521454921\t200\t10769\n1795629521454961\t503\t99999\n"


def test_wrks_figures_come_from_its_script_to_the_microsecond(tmp_path):
    """Percentiles and rate are those of the script's lines, not of the rounded table."""
    found = read_wrk(WRK, tmp_path)
    assert found.percentiles_s == (0.019996, 0.02096, 0.027869)
    assert found.requests == 999
    assert found.requests_per_s == pytest.approx(999 / 5.005)


@pytest.mark.parametrize("mark", ["%", "%%"])
def test_heys_figures_come_from_its_summary(tmp_path, mark):
    """Percentiles have four decimals of a second, whichever way the version prints its percent."""
    found = read_hey(HEY.replace("%", mark), tmp_path)
    assert found.percentiles_s == (0.02, 0.0202, 0.024)
    assert (found.requests, found.requests_per_s) == (603, 199.6404)


def test_h2loads_figures_come_from_its_log(tmp_path):
    """Percentiles are taken of the answered requests of its log, as it prints none."""
    (tmp_path / "h2load.log").write_text(LOG)
    found = read_h2load(H2LOAD, tmp_path)
    assert found.percentiles_s == (0.005755, 0.010769, 0.010769)
    assert (found.requests, found.requests_per_s) == (2, 199.67)


def test_autocannons_figures_come_from_its_json(tmp_path):
    """Percentiles are its whole milliseconds in seconds."""
    told = {"latency": {"p50": 19, "p90": 20, "p99": 23}, "2xx": 600, "duration": 3.0}
    found = read_autocannon(json.dumps(told), tmp_path)
    assert found.percentiles_s == (0.019, 0.02, 0.023)
    assert (found.requests, found.requests_per_s) == (600, 200.0)


def test_what_a_tool_does_not_say_is_an_error(tmp_path):
    """A print without its figures is refused with what was printed."""
    with pytest.raises(RuntimeError, match="unable to connect"):
        read_wrk("unable to connect", tmp_path)


def test_wrks_correction_adds_what_it_takes_for_left_out():
    """With a mean interval of 3 s a response of 9 s brings one of 6 s, as in wrk's own loop."""
    assert wrk_corrected([1, 1, 1, 9], clients=1, seconds=12) == [1, 1, 1, 9, 6]
    assert wrk_corrected([3, 3, 3, 3], clients=1, seconds=12) == [3, 3, 3, 3]


@pytest.mark.parametrize("rate", [None, 100.0], ids=["closed", "rate"])
@pytest.mark.parametrize("tool", TOOLS, ids=[tool.name for tool in TOOLS])
def test_a_tool_counts_the_requests_that_the_server_answered(tool, rate):
    """A tool that is installed runs, and counts what the server recorded but for the last ones."""
    if not tool.is_there:
        pytest.skip(f"{tool.name} is not installed; see docs/bench.md")
    if rate and not tool.takes_rate:
        pytest.skip(f"{tool.name} knows no rate")
    clients = 2
    with QueueServerProcess(Fixed(0.005)) as server:
        found = tool.run(Load(server.url, clients, 1, rate))
        records = server.records()
    assert found.requests > 0
    assert abs(len(records) - found.requests) <= clients
    assert list(found.percentiles_s) == sorted(found.percentiles_s)
    if not rate:  # With a rate, autocannon's correction makes up shorter ones.
        assert found.percentiles_s[0] >= 0.005 - found.unit_s
