"""Models from nothing: a configuration, random weights, a tokenizer; the command `init-model`."""
