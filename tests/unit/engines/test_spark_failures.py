"""What Spark says when it gives up, as it says it: none of it is on the path of a whole job."""

import pytest

from batchscore.engines.spark.failures import error_of, errors, told_by_spark
from batchscore.errors import (
    OutageError,
    RefusedError,
    StoppedError,
    WorkerLostError,
)

REFUSED = """An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "/x/batchscore/engines/spark/dataframe.py", line 110, in __call__
    for batch in partition.score_batches(chain([first], batches)):
batchscore.errors.RefusedError: 127.0.0.1:80 answers 403: closed
ask for access"""

LOST = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 3.0 failed 4 \
times, most recent failure: Lost task 0.3 in stage 3.0 (TID 9) (127.0.0.1 executor 4): \
ExecutorLostFailure (executor 4 exited caused by one of the running tasks) Reason: Command exited \
with code 137
Driver stacktrace:
\tat org.apache.spark.scheduler.DAGScheduler.abortStage(DAGScheduler.scala:3000)""".replace(
    "\\\n", ""
)

MISSING = """An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "/x/pyspark/worker_util.py", line 75, in read_command
    command = serializer.loads(file)
ModuleNotFoundError: No module named 'batchscore'
 SQLSTATE: 38000
\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handle(PythonRunner.scala:1097)"""


def test_the_error_of_a_worker_is_found_in_what_spark_says():
    """Its class, its exit code and all of its words, without the traceback."""
    found = error_of(RuntimeError(REFUSED))
    assert isinstance(found, RefusedError)
    assert str(found) == "127.0.0.1:80 answers 403: closed\nask for access"
    outage = "batchscore.errors.OutageError: away for 300 s\n SQLSTATE: 38000\n\tat org.apache.x(Y)"
    assert str(error_of(RuntimeError(outage))) == "away for 300 s"
    assert error_of(RuntimeError(outage)).exit_code == 75


def test_what_is_no_error_of_ours_is_left_as_it_is():
    """Neither another package's error, nor a word that looks like a class, nor one of a request."""
    for text in (
        "ValueError: 3",
        "batchscore.errors.Mapping: 3",
        "batchscore.errors.DecodeError: 3",
    ):
        assert error_of(RuntimeError(text)) is None
    with pytest.raises(KeyError), errors():
        raise KeyError("x")
    with pytest.raises(OutageError, match="away"), errors():
        raise RuntimeError("batchscore.errors.OutageError: away")


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (REFUSED, RefusedError, "answers 403"),
        (LOST, WorkerLostError, r"gave up part 7: .* \(Command exited with code 137\)"),
        ("x: Python worker exited unexpectedly (crashed)\nat y", WorkerLostError, "unexpectedly"),
        (MISSING, StoppedError, "No module named 'batchscore'; .*PYSPARK_PYTHON"),
        (
            "o1.x\n: org.apache.spark.SparkException: full\n\tat z",
            StoppedError,
            "part 7: org.*full",
        ),
        (
            'x.IOException: Cannot run program "/p": error=2',
            StoppedError,
            "no '/p'; PYSPARK_PYTHON",
        ),
        ("", StoppedError, "part 7: ?"),
    ],
)
def test_spark_s_hundred_lines_become_one(said, kind, words):
    """What happened, to which part, and what to do; no line of Java's."""
    with pytest.raises(kind, match=words) as caught:
        raise told_by_spark(RuntimeError(said), "part 7")
    assert "\tat " not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
