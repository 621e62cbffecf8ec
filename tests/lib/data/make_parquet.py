# Makes the Parquet files that the tests beside it read: python tests/lib/data/make_parquet.py
# Needs pyarrow and duckdb (made with 26.0.1 and 2.0.0).
import datetime
import decimal
import os

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

here = os.path.dirname(os.path.abspath(__file__))

table = pa.table({
    "question": ["What is 2+2?", "Capital of France? é", "6*7?"],
    "answer": ["2+2=4\n#### 4", "Paris", "#### 42"],
    "system": pa.array(["system1", None, "system2"]),
    "difficulty": pa.array([1, 2**60, None], pa.int64()),
})
for codec in ["snappy", "zstd", "gzip", "brotli", "lz4", "none"]:
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

count = 300
long = pa.table({
    "question": [f"What is {i} + {i % 7}?" for i in range(count)],
    "answer": pa.array([f"{i + i % 7}" if i % 5 else None for i in range(count)]),
    "system": pa.array([["system1", "system2", None][i // 40 % 3] for i in range(count)]),
    "row": pa.array(range(count), pa.int64()),
    "step": pa.array([i * i % 97 - 40 if i % 3 else None for i in range(count)], pa.int32()),
    "score": pa.array([i / 8 for i in range(count)], pa.float32()),
    "hard": pa.array([i % 3 == 0 for i in range(count)]),
    "nothing": pa.array([None] * count, pa.string()),
})
encodings = {
    "question": "DELTA_BYTE_ARRAY",
    "answer": "DELTA_LENGTH_BYTE_ARRAY",
    "row": "DELTA_BINARY_PACKED",
    "step": "DELTA_BINARY_PACKED",
    "score": "BYTE_STREAM_SPLIT",
    "hard": "RLE",
}
for version in ["1.0", "2.0"]:
    pq.write_table(
        long,
        f"{here}/encodings_v{version[0]}.parquet",
        compression="none",  # so that the fuzzer's changes reach the values
        use_dictionary=["system", "nothing"],
        column_encoding=encodings,
        data_page_version=version,
        data_page_size=1000,
        write_batch_size=100,
    )

# Another writer: it fills packed indices up to 256.
short = long.slice(0, 60).select(["question", "answer", "system"])
duckdb.sql("from short").write_parquet(f"{here}/duckdb.parquet", compression="snappy")

pq.write_table(
    pa.table({
        "question": ["a", "b", "c"],
        "when": pa.array([datetime.datetime(2024, 2, 29, 12, 30), None, datetime.datetime(1970, 1, 1)],
                         pa.timestamp("us")),
        "day": pa.array([datetime.date(2024, 2, 29), datetime.date(1969, 12, 31), None]),
        "price": pa.array([decimal.Decimal("12.50"), None, decimal.Decimal("-0.25")],
                          pa.decimal128(9, 2)),
        "small": pa.array([255, 0, None], pa.uint8()),
        "tags": pa.array([["x", None], [], None], pa.list_(pa.string())),
        "grid": pa.array([[[1, 2], [3]], [[]], None], pa.list_(pa.list_(pa.int32()))),
        "nested": pa.array([
            {"a": 1, "b": {"c": "x"}},
            {"a": None, "b": {"c": None}},
            {"a": 2, "b": {"c": "y"}},
        ]),
        "map": pa.array([[("k", 1), ("l", 2)], [("__proto__", 1)], [("m", None)]],
                        pa.map_(pa.string(), pa.int32())),
        "__proto__": ["p", "q", "r"],
    }),
    f"{here}/types.parquet",
    compression="snappy",
    data_page_version="2.0",
)

# Small files that stand for much: texts that compress to nothing, a long text in every row, millions
# of rows in a few bytes, values that repeat the one before.
texts = {
    "text": (["a" * 100_000_000], {"compression": "brotli"}),
    "dictionary": (["a" * 500_000] * 5_000, {"compression": "zstd"}),
    "rows": (["a"] * 3_000_000, {"compression": "none"}),
    "nulls": ([None] * 3_000_000, {"compression": "none"}),
    "prefixes": (["a" * 100_000] * 20_000, {
        "compression": "zstd",
        "use_dictionary": False,
        "column_encoding": {"question": "DELTA_BYTE_ARRAY"},
    }),
}
for name, (questions, options) in texts.items():
    pq.write_table(
        pa.table({"question": pa.array(questions, pa.string())}),
        f"{here}/bombs/{name}.parquet",
        row_group_size=10_000_000,
        write_statistics=False,
        **options,
    )
