"""What is exported is the trained model, to any reader."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from handmade import EOS
from models import packed, tiny_config
from safetensors import SafetensorError
from tiny import END
from tokenizers import Tokenizer
from torch.distributed.device_mesh import init_device_mesh
from transformers import AutoModelForCausalLM, AutoTokenizer

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.training.models import saving
from exactcpt.training.models.model import TrainModel, build, parallelize
from exactcpt.training.run.checkpoint import CheckpointManager
from exactcpt.training.run.export import export_checkpoint, export_model

ROPE = {"plain": {}, "theta": {"rope_theta": 5e5}, "yarn": {"yarn_factor": 4.0}}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}


@pytest.fixture
def group(tmp_path):
    meeting = f"file://{tmp_path / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.fixture
def source(tmp_path, data) -> Path:
    """A model's directory, with a tokenizer."""
    folder = tmp_path / "source"
    model = build(tiny_config(max_position_embeddings=128), window=128, backend="exact", seed=3)
    model.causal_lm.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((data / "tokenizer.json").read_bytes())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}')
    return folder


def trained(model: TrainModel) -> torch.optim.Optimizer:
    """Takes two steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    for _ in range(2):
        loss, _, _ = model(**packed([[64], [30, 34]]), denominator=torch.tensor(126.0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def logits(causal_lm, ids):
    with torch.no_grad():
        return causal_lm(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("rope", ROPE)
def test_what_is_reloaded_has_the_same_logits(tmp_path, tied, rope, group):
    config = tiny_config(max_position_embeddings=128, tie_word_embeddings=tied)
    build(config, window=128, backend="exact", seed=3).causal_lm.save_pretrained(tmp_path / "from")
    settings = {"window": 128, "backend": "exact", **ROPE[rope]}
    model = build(tmp_path / "from", **settings)
    parallelize(model, group, dtype=torch.float32)
    optimizer = trained(model)
    checkpoints = CheckpointManager(tmp_path / "run", keep=1)
    checkpoints.save(2, model, optimizer, {}, wait=True)
    export_model(model, tmp_path / "from", tmp_path / "one")
    path = checkpoints.latest()
    export_checkpoint(path, tmp_path / "two", source=tmp_path / "from", window=128, **ROPE[rope])
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two

    ids = packed([[128]])["input_ids"]
    same = build(tmp_path / "from", **settings)
    checkpoints.load(path, same, None)
    same.causal_lm.set_attn_implementation("eager")
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "one", attn_implementation="eager")
    assert torch.equal(logits(reloaded, ids), logits(same.causal_lm, ids))
    untrained = AutoModelForCausalLM.from_pretrained(tmp_path / "from")
    assert not torch.allclose(logits(reloaded, ids), logits(untrained, ids), atol=1e-2)


@pytest.mark.parametrize(
    ("rope", "theta", "scaling", "longest"),
    [("plain", 10000.0, None, 128), ("theta", 5e5, None, 128), ("yarn", 10000.0, YARN, 512)],
)
def test_the_configuration_has_both_forms_of_rope(source, tmp_path, rope, theta, scaling, longest):
    model = build(source, window=128, backend="exact", **ROPE[rope])
    export_model(model, source, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    new = scaling or {"rope_type": "default"}
    assert written["rope_parameters"] == {**new, "rope_theta": theta}
    assert written["rope_theta"] == theta
    assert written.get("rope_scaling") == scaling
    assert written["max_position_embeddings"] == longest
    assert written["architectures"] == ["LlamaForCausalLM"]
    assert "exactcpt" not in json.dumps(written)


def test_the_tokenizer_comes_along(source, tmp_path, data):
    export_model(build(source, window=128, backend="exact"), source, tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (
        data / "tokenizer.json"
    ).read_bytes()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    one, other = (AutoTokenizer.from_pretrained(path) for path in (source, tmp_path / "out"))
    assert one("Call me Ishmael.").input_ids == other("Call me Ishmael.").input_ids


def test_a_tokenizer_without_a_configuration_is_told_its_end(source, tmp_path):
    """lm-evaluation-harness, for one, needs it. What the source says is never replaced."""
    model, kept = build(source, window=128, backend="exact"), source / "tokenizer_config.json"
    export_model(model, source, tmp_path / "kept", end_token=END)
    assert (tmp_path / "kept" / kept.name).read_bytes() == kept.read_bytes()
    kept.unlink()
    export_model(model, source, tmp_path / "unknown")
    assert not (tmp_path / "unknown" / kept.name).exists()
    export_model(model, source, tmp_path / "out", end_token=END)
    assert json.loads((tmp_path / "out" / kept.name).read_text()) == {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END,
    }  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == (END, EOS)
    assert len(tokenizer) == 4096
    assert tokenizer("Call me Ishmael.").input_ids == (
        Tokenizer.from_file(str(source / "tokenizer.json")).encode("Call me Ishmael.").ids
    )


def test_who_may_read_one_file_may_read_all(source, tmp_path):
    before = os.umask(0o027)
    try:
        export_model(build(source, window=128, backend="exact"), source, tmp_path / "out")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o640}


def test_an_export_is_replaced_whole(source, tmp_path):
    model, out = build(source, window=128, backend="exact"), tmp_path / "out"
    (out / "old").mkdir(parents=True)
    (tmp_path / "out.partial").mkdir()
    export_model(model, source, out)
    assert (out / "model.safetensors").exists()
    assert not (out / "old").exists()
    assert not (tmp_path / "out.partial").exists()


def test_an_export_is_on_the_disk_before_it_has_its_name(source, tmp_path, monkeypatch):
    """A power cut leaves all of it or nothing under its name."""
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor):
        done.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def renamed(old, new):
        done.append(f"{old} -> {new}")
        return rename(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    out, partial = tmp_path / "new" / "out", tmp_path / "new" / "out.partial"
    export_model(build(source, window=128, backend="exact"), source, out)
    files = sorted(str(partial / path.name) for path in out.iterdir())
    assert done[0] == str(tmp_path)  # it has a new folder
    assert sorted(done[1:-3]) == files
    assert done[-3:] == [str(partial), f"{partial} -> {out}", str(tmp_path / "new")]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Error while serializing: I/O error: No space left on device (os error 28)", 28),
        ("Error while serializing: I/O error: File too large (os error 27)", 27),
        ("something else", 5),
    ],
)
def test_the_system_error_is_told(source, tmp_path, monkeypatch, text, number):
    def fail(*_, **__):
        raise SafetensorError(text)

    monkeypatch.setattr(saving, "save_file", fail)
    with pytest.raises(OSError) as caught:  # its number is looked at
        export_model(build(source, window=128, backend="exact"), source, tmp_path / "out")
    assert caught.value.errno == number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_folder_that_exists_is_not_overwritten(source, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="the folder to write exists"):
        export_checkpoint(tmp_path, tmp_path / "out", source=source, window=128)


def test_what_is_no_checkpoint_is_refused(source, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match=r"the checkpoint's meta\.json cannot be read"):
        export_checkpoint(tmp_path / "empty", tmp_path / "out", source=source, window=128)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_files_of_a_limited_size(tmp_path, source, monkeypatch, dtype):
    """Any reader finds the same weights in several files as in one, in the type that was asked."""
    model = build(source, window=128, backend="exact")
    export_model(model, source, tmp_path / "one", dtype=dtype)
    monkeypatch.setattr(saving, "LARGEST_FILE", 30_000)
    export_model(model, source, tmp_path / "several", dtype=dtype)
    files = sorted(path.name for path in (tmp_path / "several").glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((tmp_path / "several" / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == files
    modes = {path.stat().st_mode for path in (tmp_path / "several").iterdir()}
    assert len(modes) == 1
    one, several = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict()
        for name in ("one", "several")
    )
    exact = model.causal_lm.state_dict()
    assert one.keys() == several.keys() == exact.keys()
    for name, weight in exact.items():
        assert one[name].dtype == several[name].dtype == dtype
        assert torch.equal(one[name], weight.to(dtype))
        assert torch.equal(several[name], weight.to(dtype))
    again = build(tmp_path / "several", window=128, backend="exact").causal_lm.state_dict()
    assert all(torch.equal(again[name], weight.to(dtype).float()) for name, weight in exact.items())
