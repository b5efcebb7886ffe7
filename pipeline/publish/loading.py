"""How a published data set is loaded: the configurations of its card, and programs to copy.

The hub reads all tables of a data set with the reader of the first. So beside windows in Arrow
files, the table of documents, which is Parquet, is no configuration of its own.
"""

from typing import Any

from ...schemas.manifest import Manifest
from ...schemas.shard import SPLITS
from ..core.choices import PublishedFormat

__all__ = ["configurations", "programs"]

WINDOWS, DOCUMENTS = "windows", "documents"

DATASETS = {
    "parquet": """\
from datasets import load_dataset

windows = load_dataset("PATH", "windows", split="SPLIT")
documents = load_dataset("PATH", "documents", split="documents")
print(windows[0]["seq_lengths"], windows[0]["loss_weight"][:4])
""",
    "arrow": """\
from datasets import load_dataset

windows = load_dataset("PATH", "windows", split="SPLIT")
documents = load_dataset("parquet", data_files="PATH/documents/*.parquet", split="train")
print(windows[0]["seq_lengths"], windows[0]["loss_weight"][:4])
""",
}
DUCKDB = {
    "parquet": """\
import duckdb

found = duckdb.sql(\"\"\"
    SELECT source, sum(n)::BIGINT AS tokens, count(*) AS segments
    FROM (SELECT unnest(doc_index) AS doc_index, unnest(seq_lengths) AS n
          FROM 'PATH/SPLIT/*.parquet')
    JOIN 'PATH/documents/*.parquet' USING (doc_index)
    GROUP BY source ORDER BY tokens DESC
\"\"\")
found.show()
""",
    "arrow": """\
import duckdb
import pyarrow.dataset

windows = pyarrow.dataset.dataset("PATH/SPLIT", format="ipc")
found = duckdb.sql(\"\"\"
    SELECT source, sum(n)::BIGINT AS tokens, count(*) AS segments
    FROM (SELECT unnest(doc_index) AS doc_index, unnest(seq_lengths) AS n FROM windows)
    JOIN 'PATH/documents/*.parquet' USING (doc_index)
    GROUP BY source ORDER BY tokens DESC
\"\"\")
found.show()
""",
}
POLARS = """\
import polars as pl

windows = pl.SCAN("PATH/SPLIT/*.FORMAT")
print(windows.select(pl.col("loss_weight").list.sum().mean()).collect())
"""
POLARS_OF_FIXED = POLARS.replace("list.sum", "arr.sum")


def configurations(manifest: Manifest, to: PublishedFormat) -> list[dict[str, Any]]:
    """The configurations in the header of the card; the hub shows the windows first.

    Args:
        manifest: of the shard set.
        to: the format of the windows.
    """
    files = [
        {"split": split, "path": f"{split}/*.{to}"} for split in SPLITS if manifest["shards"][split]
    ]
    windows = {"config_name": WINDOWS, "default": True, "data_files": files}
    documents = {
        "config_name": DOCUMENTS,
        "data_files": [{"split": DOCUMENTS, "path": "documents/*.parquet"}],
    }
    return [windows, documents] if to == "parquet" else [windows]


def programs(manifest: Manifest, to: PublishedFormat) -> dict[str, str]:
    """Programs that load the data set, by the library; PATH stands for where it is.

    Args:
        manifest: of the shard set.
        to: the format of the windows.
    """
    split = next((split for split in SPLITS if manifest["shards"][split]), SPLITS[0])
    scan = {"parquet": "scan_parquet", "arrow": "scan_ipc"}[to]
    polars = POLARS if to == "parquet" else POLARS_OF_FIXED
    found = {"datasets": DATASETS[to], "DuckDB": DUCKDB[to], "Polars": polars}
    places = {"SPLIT": split, "SCAN": scan, "FORMAT": to}
    for word, value in places.items():
        found = {name: program.replace(word, value) for name, program in found.items()}
    return found
