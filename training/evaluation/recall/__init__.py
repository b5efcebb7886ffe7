"""The recall world: a language in which only recall needs a long context; `recall-world`."""
