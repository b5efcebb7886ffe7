"""Corpora to token stores, token stores to shard sets, and all that can be asked about them.

From the ground up; a room imports only rooms above it in this list:

core                                  the algorithms, on numpy arrays alone
files, terminal, verify               storage; what people see; the check of finished shards
config, sources                       settings; corpora, split and read
job                                   a job's folder, progress, interruption
beam, shard_set                       running a Beam graph; a finished set, read back
tokens, show                          text to token store; windows laid out for a person
pack                                  token store to shard set
inspection                            what packing and weighting do to a corpus
commands, cli                         flags to jobs
"""
