"""`latent` and `nolima` as their users run them, and the runs compared."""

import json

import pytest
from harness import done
from nolima_data import write_nolima
from tiny import config, model_folder, shard_set

from exactcpt.schemas.manifest import EVALUATION, parse
from exactcpt.training.train import train

pytestmark = pytest.mark.slow


def test_two_arms_get_the_same_items_and_are_compared(tmp_path):
    shard_set(tmp_path / "shards")
    model_folder(tmp_path / "model")
    runs = [tmp_path / name for name in ("uniform", "exact")]
    for run in runs:
        settings = config(tmp_path, run, weighting=run.name, steps=1)
        assert train(settings, lambda _: None).finished
    prose = " ".join(f"On day {n} it snowed. Nobody came." for n in range(200))
    (tmp_path / "prose.txt").write_text(prose)
    out = done(
        "evaluate", *runs, "--suite", "latent,nolima", "--nolima", write_nolima(tmp_path / "data"),
        "--haystack", tmp_path / "prose.txt", "--lengths", "256", "--items", "3", "--device", "cpu",
    ).out  # fmt: skip
    assert "latent is exactcpt's own: it is not NoLiMa" in out
    assert "published scores are of chat models" in out
    for suite in ("latent", "nolima"):
        items = set()
        for run in runs:
            (folder,) = (run / "eval").glob(f"{suite}-256-*")
            path = folder / "manifest.json"
            manifest = parse(path.read_bytes(), str(path), EVALUATION)
            items.add((manifest["items"], (folder / "items.parquet").read_bytes()))
            assert (manifest["suite"], manifest["length"]) == (suite, 256)
        assert len(items) == 1
    found = json.loads(done("compare", *runs, "--json").out)["ruler"]
    by_suite = {each["suite"]: each for each in found if each["measure"] == "choice"}
    assert by_suite["latent"]["endpoints"][0]["items"] == 6
    assert by_suite["nolima"]["endpoints"][0]["items"] == 3
    assert all("exact" in each["endpoints"][0]["arms"] for each in by_suite.values())
