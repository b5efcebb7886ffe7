"""What processes forked for tests find imported; see `ranks`."""

# ruff: noqa: F401
import torch._dynamo
import torch._inductor.compile_fx
import torch.distributed.checkpoint.state_dict_saver
import transformers.models.llama.modeling_llama

import exactcpt.training.train
