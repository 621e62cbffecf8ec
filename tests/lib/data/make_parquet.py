# Makes the Parquet files that dataset_test.ts reads: python tests/lib/data/make_parquet.py
# Needs pyarrow (made with 26.0.1).
import os

import pyarrow as pa
import pyarrow.parquet as pq

here = os.path.dirname(os.path.abspath(__file__))

table = pa.table({
    "question": ["What is 2+2?", "Capital of France? é", "6*7?"],
    "answer": ["2+2=4\n#### 4", "Paris", "#### 42"],
    "system": pa.array(["system1", None, "system2"]),
    "difficulty": pa.array([1, 2**60, None], pa.int64()),
})
for codec in ["snappy", "zstd", "gzip"]:
    pq.write_table(table, f"{here}/questions_{codec}.parquet", compression=codec, row_group_size=2)

messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
pq.write_table(
    pa.table({
        "messages": pa.array([
            [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
        ], messages),
    }),
    f"{here}/messages.parquet",
)
