"""datatrove's tokenizer stage: python datatrove_tokens.py TOKENIZER EOS INPUTS OUT

INPUTS is a folder of JSON lines, a file for each of two tasks. Runs in an environment of its own,
with its default settings, and prints what it did as JSON.
"""

import json
import sys
import time
from importlib.metadata import version

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer


def main() -> None:
    tokenizer, eos, inputs, out = sys.argv[1:]
    executor = LocalPipelineExecutor(
        pipeline=[
            JsonlReader(inputs),
            DocumentTokenizer(f"{out}/tokens", tokenizer, eos_token=eos, seed=0),
        ],
        tasks=2,
        workers=2,
        logging_dir=f"{out}/logs",
    )
    began = time.perf_counter()
    stats = executor.run()
    seconds = time.perf_counter() - began
    tokens = stats.stats[-1].stats["tokens"].total
    done = {"tokens": tokens, "seconds": seconds, "version": version("datatrove")}
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":  # its workers import this file
    main()
