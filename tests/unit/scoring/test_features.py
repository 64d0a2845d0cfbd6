"""Which input columns are sent, and which are carried through."""

import time

import pyarrow as pa

from batchscore.schema import FeatureSpec, ModelSignature
from batchscore.scoring.features import feature_columns, kept_columns


def seconds_to_choose(count: int) -> float:
    names = [f"f{n}" for n in range(count)]
    schema = pa.schema([(name, pa.float64()) for name in names])
    inputs = tuple(FeatureSpec(name, "numeric", (1,)) for name in names)
    signature = ModelSignature(inputs=inputs, outputs=())
    taken = []
    for _ in range(5):
        started = time.process_time()
        sent = feature_columns(signature, schema, {"f0": "f1"}, is_pictures=False)
        kept = kept_columns(schema, "all", ["f0"], None)
        taken.append(time.process_time() - started)
        assert sent == ("f1", *names[1:])
        assert kept == tuple(names[1:])
    return min(taken)


def test_choosing_columns_takes_time_in_proportion_to_their_number():
    """A table of thousands of columns starts as quickly, a column, as a small one."""
    assert seconds_to_choose(16 * 500) < 64 * seconds_to_choose(500)
