"""gigatoken alone: python encode_files.py TOKENIZER INPUT; prints what it did as JSON."""

import json
import sys
import time

import gigatoken

tokenizer = gigatoken.Tokenizer(sys.argv[1])
began = time.perf_counter()
documents = tokenizer.encode_files(gigatoken.JsonlFileSource([sys.argv[2]], field="text"))
seconds = time.perf_counter() - began
done = {"documents": len(documents), "tokens": len(documents.layout.content), "seconds": seconds}
sys.stdout.write(json.dumps(done) + "\n")
