"""The command `prepare`: corpora in, a shard set out, with a token store between them."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ...schemas.manifest import MANIFEST, SHARD_SET
from ..beam.loading import load_beam_meanwhile
from ..beam.runner import RunSettings
from ..config import PackConfig
from ..files.storage import Folder
from ..job.folder import (
    PREPARED,
    Finished,
    State,
    discard,
    is_half_removed,
    locked,
    refuse_other_inputs,
    require_available,
    tidy,
)
from ..job.places import refuse_inside_sources, refuse_one_inside_another, require_space
from ..pack import manifest as pack_manifest
from ..pack.job import pack
from ..pack.settings import shard_set_settings
from ..shard_set.beside import store_place
from ..terminal import Console
from ..tokens import manifest as store_manifest
from ..tokens.cores import encode_on_cores
from ..tokens.inputs import is_of_plan, same_inputs
from ..tokens.job import tokenize
from ..tokens.manifest import refuse_left_out
from ..tokens.plan import TokenizePlan
from ..tokens.probe import Probe
from .invocation import Invocation, folder_at, planned, show_estimate
from .summary import shard_tables, store_tables

__all__ = ["PrepareJob", "run_prepare"]


def run_prepare(flags: Mapping[str, Any]) -> None:
    """Tokenizes corpora and packs them."""
    call = Invocation(flags)
    config, packing, settings = call.tokenize_config(), call.pack_config(), call.run_settings()
    if call.print_config(config, packing):
        return
    out = call.out
    store = folder_at(call.values["store"]) if call.values.get("store") else store_place(out)
    settings.refuse_unreachable([*(s.pattern for s in config.sources), store.url, out.url])
    refuse_one_inside_another(store=store, out=out)
    refuse_inside_sources(config.sources, [store, out])
    load_beam_meanwhile(whole=not settings.is_embedded)
    plan = planned(call, config)
    encode_on_cores(settings.threads, len(plan.tokenizer.json), plan.text_bytes)
    job = PrepareJob(plan=plan, packing=packing, store=store, out=out)
    finished = None if flags["overwrite"] else job.finished(call.console)
    if finished is None:
        found, probes = show_estimate(call, job.plan, packing)
        if flags["dry_run"]:
            return
        require_space({store: found.store_bytes, out: found.shard_bytes})
        finished = job.run(
            settings,
            call.console,
            overwrite=flags["overwrite"],
            probes=probes,
            expected=found.all_tokens,
        )
    if flags["discard_store"]:
        job.discard_store(call.console)
    call.report(finished, out, shard_tables(finished.manifest))


@dataclass(frozen=True, kw_only=True)
class PrepareJob:
    """The job of `prepare`: tokenize, then pack.

    Attributes:
        plan: the plan of tokenization.
        packing: how the token store is packed.
        store: the folder for the token store.
        out: the folder for the shard set.
    """

    plan: TokenizePlan
    packing: PackConfig
    store: Folder
    out: Folder

    @property
    def _state(self) -> State:
        """What determines the shard set."""
        return State(
            settings=shard_set_settings(self.packing, list(self.plan.files), self.plan.settings),
            inputs=self.plan.state.inputs,
        )

    def _state_as_prepared(self, console: Console) -> State:
        """The state, with the inputs as a finished shard set has them if they are the same."""
        kept = State.read(self.out, PREPARED).inputs
        return replace(self._state, inputs=same_inputs(self.plan, kept, self.out, console.say))

    def finished(self, console: Console) -> Finished | None:
        """The shard set, if an equal job has finished it; its token store may be gone.

        Raises:
            ExactcptError: that job left out more of the inputs than is allowed now.
        """
        out = self.out
        if not (out.exists(MANIFEST) and out.exists(PREPARED)):
            return None
        if out.read(PREPARED) != self._state_as_prepared(console).to_json():
            return None
        finished = Finished.found_in(out, SHARD_SET)
        refuse_left_out(finished.manifest, self.plan.config, out)
        for folder in (out, self.store):
            if folder.exists(MANIFEST):
                tidy(folder)
        return finished

    def run(
        self,
        settings: RunSettings,
        console: Console,
        *,
        overwrite: bool,
        probes: Mapping[str, Probe],
        expected: int | None,
    ) -> Finished:
        """Runs the job. The output folder is checked and locked before the long part begins.

        Args:
            settings: where the graphs run.
            console: for messages and progress.
            overwrite: whether output of other settings is replaced. A token store of this plan is
                kept.
            probes: what was read of the beginning of each source.
            expected: how many tokens the sources have, roughly; None if nobody knows.

        Returns:
            The shard set.
        """
        with locked(self.out):
            self._require_out(console, overwrite=overwrite)
            stale = overwrite and not is_of_plan(self.store, self.plan, console.say)
            stored = tokenize(
                self.plan,
                self.store,
                settings,
                console,
                overwrite=stale,
                probes=probes,
                expected=expected,
            )
            if not stored.before:
                console.show(store_tables(stored.manifest))
            finished = pack(
                self.packing, self.store, self.out, settings, console, overwrite=overwrite
            )
            with suppress(OSError):  # the shard set is complete without it
                self.out.write(PREPARED, self._state.to_json())
        return finished

    def _require_out(self, console: Console, *, overwrite: bool) -> None:
        out = self.out
        require_available(out, self._state.settings, pack_manifest.OWNED, overwrite=overwrite)
        if not overwrite and out.exists(PREPARED):
            state = self._state_as_prepared(console)
            refuse_other_inputs(out, State.read(out, PREPARED).inputs, state.inputs)

    def discard_store(self, console: Console) -> None:
        """Removes the token store, if it belongs to this job."""
        if is_half_removed(self.store) or is_of_plan(self.store, self.plan, console.say):
            discard(self.store, store_manifest.OWNED)
