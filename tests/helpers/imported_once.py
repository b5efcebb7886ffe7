"""What processes forked for tests find imported; see `ranks`."""

# ruff: noqa: F401
import gc
import logging

import torch._dynamo
import torch._inductor.compile_fx
import torch.distributed.checkpoint.state_dict_saver
import transformers.models.llama.modeling_llama
from forks import refuse_threads
from remembered import remember

import exactcpt.pipeline.commands.prepare
import exactcpt.pipeline.pack.graph
import exactcpt.pipeline.tokens.graph
import exactcpt.training.train
from exactcpt.pipeline.beam.loading import load_beam

logging.getLogger().addHandler(logging.NullHandler())  # else Beam's import adds one that prints
load_beam()
remember()
logging.getLogger().handlers.clear()
gc.freeze()
refuse_threads()
