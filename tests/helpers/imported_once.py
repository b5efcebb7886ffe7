"""What processes forked for tests find imported; see `ranks`."""

import gc
import logging
from importlib import import_module

from forks import refuse_threads
from imports import PIPELINE, TRAINING
from remembered import remember, remember_rules, remember_what_is_installed

from exactcpt.pipeline.beam.loading import load_beam

COMPILER = ("torch._dynamo", "torch._inductor.compile_fx")

remember_what_is_installed()
logging.getLogger().addHandler(logging.NullHandler())  # else Beam's import adds one that prints
load_beam()
for module in (*PIPELINE, *TRAINING, *COMPILER):
    import_module(module)
remember()
remember_rules()
logging.getLogger().handlers.clear()
gc.freeze()
refuse_threads()
