"""What commands import as they run: a process that has it all can be forked for each of them.

Modules that nobody names here come with others.
"""

__all__ = ["PIPELINE", "TRAINING"]

PIPELINE = (
    "exactcpt.pipeline.cli", "exactcpt.pipeline.beam.options", "exactcpt.pipeline.commands.convert",
    "exactcpt.pipeline.commands.inspect_", "exactcpt.pipeline.commands.pack",
    "exactcpt.pipeline.commands.prepare", "exactcpt.pipeline.commands.publish",
    "exactcpt.pipeline.commands.reweigh", "exactcpt.pipeline.commands.tokenize_",
    "exactcpt.pipeline.commands.verify", "exactcpt.pipeline.commands.weigh",
    "exactcpt.pipeline.pack.graph", "exactcpt.pipeline.tokens.graph",
    "exactcpt.pipeline.weigh.graph", "apache_beam",
    "apache_beam.runners.portability.fn_api_runner.fn_runner",
    "apache_beam.runners.worker.sdk_worker", "apache_beam.typehints.intrinsic_one_ops",
    "apache_beam.typehints.opcodes", "awkward", "filelock", "fsspec",
    "fsspec.implementations.local", "gigatoken", "huggingface_hub.repocard_data", "jsonschema",
    "pyarrow.json", "pyarrow.parquet", "rich.progress", "rich.table", "tokenizers", "vl_convert",
    "zstandard",
)  # fmt: skip
TRAINING = (
    "exactcpt.pipeline.cli", "exactcpt.training.cli", "exactcpt.training.run.export",
    "exactcpt.training.run.exported", "exactcpt.training.train", "fsspec", "jsonschema",
    "numpy.ctypeslib", "pandas", "torch", "torch.distributed.checkpoint.state_dict_saver",
    "torch.utils.serialization.config", "transformers",
    "transformers.models.llama.modeling_llama",
)  # fmt: skip
