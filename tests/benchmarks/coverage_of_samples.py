"""How often the 95% intervals of `inspect --sample` contain the truth.

    python tests/benchmarks/coverage_of_samples.py [--corpora FILE ...] [--fraction F] [--seeds N]

Each corpus is tokenized once. Then samples are drawn from the sizes and lengths alone, with other
seeds, and each interval is compared with what packing the corpus in a random order gives. There is
a made-up corpus, too, with a heavy tail: sizes are Pareto's with exponent 1.1, and a tenth of the
documents have 1.8 times as many tokens per byte as the others. `--by` says how samples are drawn
(`pipeline/inspection/sampling.py`). The table, then JSON in the last line.

A figure is covered if its interval has the truth. `none` counts the samples that say that they
cannot tell; the width is half of the interval, relative to the truth, in the middle of the seeds.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from exactcpt.pipeline.config import PackConfig, TokenizeConfig, parse_source
from exactcpt.pipeline.core.choices import PackingName
from exactcpt.pipeline.core.drawing import SizeTable, chances, threshold
from exactcpt.pipeline.core.exact import weight_table
from exactcpt.pipeline.core.parameters import exact_of
from exactcpt.pipeline.core.whatif import Counter, OrderedLengths
from exactcpt.pipeline.inspection.estimated import inspect_sample
from exactcpt.pipeline.inspection.sampling import (
    BLOCKS,
    DOCUMENT_BYTES,
    LARGEST_BLOCK,
    SMALLEST_BLOCK,
    OfBlocks,
    OfDocuments,
)
from exactcpt.pipeline.inspection.subject import Row
from exactcpt.pipeline.pack.settings import pack_settings
from exactcpt.pipeline.sources.reading import read_member
from exactcpt.pipeline.sources.splits import Member
from exactcpt.pipeline.tokens.encoders import assemble, shared_encoder
from exactcpt.pipeline.tokens.plan import plan_tokenize

DATA = Path(__file__).parents[1] / "data"
BUNDLED = [DATA / name for name in ("poems.jsonl", "jargon.jsonl.gz", "proposals.jsonl")]
MADE_UP = "made up"


@dataclass(frozen=True)
class Corpus:
    """The bytes and tokens of every document, in the order of the files."""

    name: str
    sizes: NDArray[np.float64]
    lengths: NDArray[np.int32]


@dataclass
class Found:
    """What happened to one figure over the seeds."""

    corpus: str
    figure: str
    covered: int = 0
    given: int = 0
    none: int = 0
    widths: list[float] = field(default_factory=list)

    @property
    def width(self) -> float | None:
        """The median of half the width, relative to the truth."""
        return float(np.median(self.widths)) if self.widths else None

    def add(self, interval: Any, truth: float) -> None:
        if interval is None:
            self.none += 1
            return
        low, high = interval
        self.given += 1
        self.covered += bool(low - 1e-9 <= truth <= high + 1e-9)
        self.widths.append((high - low) / 2 / float(max(truth, 1e-9)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpora", type=Path, nargs="*", default=BUNDLED)
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--made-up", type=int, default=20_000, help="documents of that corpus")
    parser.add_argument("--window", type=int, default=4096)
    parser.add_argument("--packing", choices=("concat", "best_fit"), default="concat")
    parser.add_argument("--by", choices=("documents", "blocks"), default="documents")
    options = parser.parse_args()
    corpora = [*map(tokenized, options.corpora), made_up(options.made_up)]
    found: list[Found] = []
    for corpus in corpora:
        found += covered(
            corpus, options.fraction, options.seeds, options.window, options.packing, options.by
        )
    show(found, vars(options))
    report = {
        **{name: value for name, value in vars(options).items() if name != "corpora"},
        "figures": [
            {**{k: v for k, v in asdict(one).items() if k != "widths"}, "width": one.width}
            for one in found
        ],
    }
    sys.stdout.write(json.dumps(report) + "\n")


def tokenized(path: Path) -> Corpus:
    config = TokenizeConfig(
        sources=(parse_source(f"s={path}"),), tokenizer=str(DATA / "tokenizer.json")
    )
    plan = plan_tokenize(config)
    sizes, lengths = [np.empty(0)], [np.empty(0, np.int32)]
    encoder = shared_encoder(plan.spec(plan.tokenizer.where, "gigatoken"))
    for file in plan.files["s"]:
        for batch in read_member(Member(file=file), plan.fields["s"]):
            ids = assemble(encoder.encode(batch.content), plan.bos_id, plan.eos_id)
            sizes.append(batch.content.lengths + float(DOCUMENT_BYTES))
            lengths.append(ids.lengths.astype(np.int32))
    return Corpus(path.name, np.concatenate(sizes), np.concatenate(lengths))


def made_up(documents: int) -> Corpus:
    rng = np.random.default_rng(1)
    sizes = np.minimum((rng.pareto(1.1, documents) + 1) * 200, 2e6)
    per_byte = 0.27 * np.exp(0.15 * rng.standard_normal(documents))
    per_byte *= np.where(rng.random(documents) < 0.1, 1.8, 1)
    return Corpus(MADE_UP, np.floor(sizes), np.maximum(2, sizes * per_byte).astype(np.int32))


def covered(
    corpus: Corpus, fraction: float, seeds: int, window: int, packing: PackingName, by: str
) -> list[Found]:
    """Draws samples, and compares their intervals with the truth."""
    config = PackConfig(window=window, packing=packing, validation_fraction=0)
    draw = of_blocks if by == "blocks" else of_documents
    found: dict[str, Found] = defaultdict(lambda: Found(corpus.name, ""))
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        row = estimated(draw(corpus, fraction, rng), config)
        truth = dict(figures_of(corpus, config, rng))
        assert row.intervals is not None
        shares = row.intervals["shares"]
        for bucket, interval in enumerate(shares):
            name = f"share of bucket {bucket}"
            if truth[name] or interval:
                found[name].add(interval, truth[name])
        for name in ("windows", "tokens", "mean_weight"):
            found[name].add(row.intervals[name], truth[name])
    for name, one in found.items():
        one.figure = name
    return list(found.values())


def of_documents(corpus: Corpus, fraction: float, rng: np.random.Generator) -> OfDocuments:
    """Documents, drawn by their sizes."""
    table = SizeTable()
    table.add(corpus.sizes)
    chance = chances(corpus.sizes, fraction, threshold(table, fraction))
    drawn = rng.random(len(chance)) < chance
    return OfDocuments(
        lengths=corpus.lengths[drawn],
        sizes=corpus.sizes[drawn],
        train=np.ones(int(drawn.sum()), bool),
        weight=1 / chance[drawn],
        unit=np.arange(int(drawn.sum())),
        all=table,
        training=table,
    )


def of_blocks(corpus: Corpus, fraction: float, rng: np.random.Generator) -> OfBlocks:
    """Ranges of bytes, in each of which are the documents that begin there."""
    whole = float(corpus.sizes.sum())
    block = min(LARGEST_BLOCK, max(SMALLEST_BLOCK, int(whole * fraction / BLOCKS)))
    begins = np.cumsum(corpus.sizes) - corpus.sizes
    which = (begins // block).astype(np.int64)
    blocks = int(whole // block) + 1
    chosen = np.sort(rng.permutation(blocks)[: max(1, round(fraction * blocks))])
    drawn = np.isin(which, chosen)
    unit = np.searchsorted(chosen, which[drawn])
    owned = np.bincount(unit, corpus.sizes[drawn], len(chosen))
    return OfBlocks(
        lengths=corpus.lengths[drawn],
        sizes=corpus.sizes[drawn],
        train=np.ones(int(drawn.sum()), bool),
        weight=np.full(int(drawn.sum()), whole / max(1.0, float(owned.sum()))),
        unit=unit,
        block_bytes=owned,
        whole=whole,
    )


def estimated(stratum: OfBlocks | OfDocuments, config: PackConfig) -> Row:
    plan: Any = SimpleNamespace(
        config=SimpleNamespace(sources=()), files={"s": []}, settings={}, bos_id=None
    )
    return inspect_sample(plan, {}, {"s": [stratum]}, 0.1, [config], []).rows[0]


def figures_of(
    corpus: Corpus, config: PackConfig, rng: np.random.Generator
) -> Iterator[tuple[str, float]]:
    """What packing the corpus in a random order gives."""
    order = rng.permutation(len(corpus.lengths))
    counter = Counter(config.window, config.packing, ["s"], int(corpus.lengths.max()))
    counter.add(OrderedLengths(corpus.lengths[order], np.zeros(len(order), np.int64)))
    exposure = counter.exposure()
    counts, targets = exposure.histogram, max(1, exposure.targets)
    for bucket, count in enumerate(counts.tolist()):
        yield f"share of bucket {bucket}", count / targets
    exact = exact_of(pack_settings(config, ["s"]))
    weights = weight_table(counts.tolist(), config.window, exact).weights
    yield "windows", exposure.windows
    yield "tokens", exposure.tokens
    yield "mean_weight", float(counts @ np.array(weights)) / targets


def show(found: list[Found], options: dict[str, Any]) -> None:
    table = Table("corpus", "figure", "covered", "none", "half width", box=SIMPLE_HEAD)
    table.title = (
        f"{options['seeds']} samples of {options['fraction']:.1%} by {options['by']}, window "
        f"{options['window']:,}, {options['packing']}"
    )
    for one in found:
        table.add_row(
            one.corpus,
            one.figure,
            f"{one.covered / one.given:.1%}" if one.given else "-",
            f"{one.none:,}",
            "-" if one.width is None else f"{one.width:.2%}",
        )
    shares = [one for one in found if one.given]
    rate = sum(one.covered for one in shares) / max(1, sum(one.given for one in shares))
    table.caption = f"{rate:.1%} of all intervals have the truth"
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
