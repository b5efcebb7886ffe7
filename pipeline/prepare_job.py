"""The job `prepare`: corpora in, a shard set out, with a token store between them."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..schemas.manifest import MANIFEST, SHARD_SET, Manifest, parse
from . import pack_job, tokenize_job
from .config import PackConfig
from .job import JOB, State, discard, is_of, locked, refuse_other_inputs, require_available
from .pack_job import pack, pack_settings
from .probe import Probe
from .progress import Console
from .runner import RunSettings
from .storage import Folder
from .summary import store_tables
from .tokenize_job import TokenizePlan, refuse_left_out, tokenize

__all__ = ["PrepareJob"]

PREPARED = f"{JOB}/prepared.json"
"""Settings and raw inputs of a finished shard set: its token store may be gone."""


@dataclass(frozen=True, kw_only=True)
class PrepareJob:
    """What to do.

    Attributes:
        plan: of tokenization.
        packing: how the store is packed.
        store: where the token store is written.
        out: where the shard set is written.
    """

    plan: TokenizePlan
    packing: PackConfig
    store: Folder
    out: Folder

    @property
    def _state(self) -> State:
        """What the shard set follows from."""
        return State(
            settings={
                **pack_settings(self.packing, list(self.plan.files)),
                "tokenize": self.plan.settings,
            },
            inputs=self.plan.state.inputs,
        )

    def finished(self) -> Manifest | None:
        """The shard set's manifest if an equal job has finished; its store may be gone.

        Raises:
            ExactcptError: it has left out more of the inputs than is allowed now.
        """
        out = self.out
        if not (out.exists(MANIFEST) and out.exists(PREPARED)):
            return None
        if out.read(PREPARED) != self._state.to_json():
            return None
        manifest = parse(out.read(MANIFEST), out.url_of(MANIFEST), SHARD_SET)
        refuse_left_out(manifest, self.plan.config, out)
        return manifest

    def run(
        self,
        settings: RunSettings,
        console: Console,
        *,
        overwrite: bool,
        probes: Mapping[str, Probe],
    ) -> tuple[Manifest, bool]:
        """Runs the job. The output folder is held, and known to be free, before the long part.

        Args:
            settings: where the graphs run.
            console: for messages and progress.
            overwrite: whether output of other settings is replaced. A token store that only needs
                to be packed anew stays.
            probes: the beginnings of the sources.

        Returns:
            The shard set's manifest, and whether an equal job had finished before.
        """
        with locked(self.out):
            self._require_out(overwrite=overwrite)
            stale = overwrite and not is_of(self.store, self.plan.state)
            stored, kept = tokenize(
                self.plan, self.store, settings, console, overwrite=stale, probes=probes
            )
            if not kept:
                console.show(store_tables(stored))
            manifest, already = pack(
                self.packing, self.store, self.out, settings, console, overwrite=overwrite
            )
            self.out.write(PREPARED, self._state.to_json())
        return manifest, already

    def _require_out(self, *, overwrite: bool) -> None:
        out, state = self.out, self._state
        require_available(out, state.settings, pack_job.OWNED, overwrite=overwrite)
        if not overwrite and out.exists(PREPARED):
            refuse_other_inputs(out, State.of_json(out.read(PREPARED)).inputs, state.inputs)

    def discard_store(self) -> None:
        """Removes the token store, if it is the one of this job."""
        if is_of(self.store, self.plan.state):
            discard(self.store, tokenize_job.OWNED)
