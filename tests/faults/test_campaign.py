"""No fault of a command leaves anything wrong; and the campaign finds what is broken on purpose."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from campaign import shim
from campaign.commands import COMMANDS
from campaign.disk import Crash
from campaign.faults import FAULTS, Campaign, Outcome
from campaign.kills import kill_at_random
from campaign.server import Server

pytestmark = pytest.mark.slow

if why := shim.why_not():
    pytest.skip(why, allow_module_level=True)

COMPLETE = ("reweigh",)
"""Every fault of these is tried here; of the others some of each kind, and all by `make faults`."""
SAMPLES = {"prepare": 3, "pack": 3, "weigh": 3, "convert": 5, "publish": 5, "train": 3, "export": 5}

Begin = Callable[..., Campaign]


@pytest.fixture(scope="module")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begin]:
    """Begins the campaign of a command, in a program that may be broken."""
    library = shim.build(tmp_path_factory.mktemp("shim"))
    servers: dict[tuple[str, str], Server] = {}

    def do(name: str, broken: str = "", **options: Any) -> Campaign:
        imported = COMMANDS[name].half, broken
        if imported not in servers:
            servers[imported] = Server(library, *imported)
        work = tmp_path_factory.mktemp("campaign")
        return Campaign(name, COMMANDS[name], servers[imported], work, **options)

    yield do
    for server in servers.values():
        server.close()


def outcomes(campaign: Campaign, sample: int | None) -> Iterator[Outcome]:
    for fault in FAULTS:
        if isinstance(fault, Crash):
            yield campaign.crash(fault, sample)
        else:
            yield campaign.fail(fault, sample)


@pytest.mark.parametrize("name", [*COMPLETE, *SAMPLES])
def test_a_command_survives_every_fault(begin, name):
    campaign = begin(name)
    assert campaign.operations > 10
    for outcome in outcomes(campaign, SAMPLES.get(name)):
        assert outcome.faults >= min(campaign.operations, SAMPLES.get(name) or 10**9) - 1
        assert not outcome.findings, outcome


@pytest.mark.parametrize(
    ("broken", "fault", "wrong"),
    [
        ("no sync", Crash.CUT, "the same command ends with 1"),
        ("no sync", Crash.ZEROS, "the same command ends with 1"),
        ("no sync", Crash.STRICT, "it was complete, and now missing: out"),
        ("no folder sync", Crash.STRICT, "it was complete, and now missing: out"),
        ("no temporary", Crash.TORN, "the same command ends with 1"),
    ],
)
def test_the_campaign_finds_what_is_broken(begin, broken, fault, wrong):
    """A removed fsync, and a file that is written under its own name."""
    outcome = begin("reweigh", broken).crash(fault, 24)
    assert outcome.count("wrong")
    assert any(finding.found.startswith(wrong) for finding in outcome.findings), outcome


@pytest.mark.parametrize("broken", ["", "no temporary"])
def test_states_that_are_not_tried_would_end_as_said(begin, broken):
    """Every one is tried, to compare: where temporaries are written, and where files are.

    Of the broken program, some are enough to see that the comparison bites.
    """
    shared, each = begin("reweigh", broken), begin("reweigh", broken, share=False)
    found = [campaign.crash(Crash.TORN, 24 if broken else None) for campaign in (shared, each)]
    assert [finding.at for finding in found[0].findings] == [f.at for f in found[1].findings]
    assert bool(found[0].findings) == bool(broken)
    assert found[1].reruns == found[1].faults
    assert found[0].reruns < found[1].reruns / 2 or broken


def test_a_command_that_is_killed_at_random(begin):
    found = kill_at_random(begin("reweigh"), 5, workers=False)
    assert found.count >= 5
    assert (found.findings, found.orphans) == ([], 0)
