"""What `import exactcpt` offers, on arrays: contexts and weights of windows that anybody packed.

contexts.py   effective contexts and weights of the tokens of windows
tensors.py    the same for tensors of PyTorch, without leaving the device or the graph
counting.py   the histogram of a corpus, and the weights that follow from it
shards.py     the windows of a shard set
"""
