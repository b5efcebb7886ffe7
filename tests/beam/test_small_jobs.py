"""What makes the jobs of the tests small leaves them what they are."""

import inspect
from types import MethodType

import harness
import remembered
import small_jobs

from exactcpt.pipeline.beam.loading import load_beam
from exactcpt.pipeline.commands import invocation


def takes(one, other=3, *rest, named=None):
    return one, other, rest, named


def test_what_is_remembered_is_what_beam_finds():
    load_beam()
    small_jobs.settle()
    from apache_beam.transforms import core

    for _ in range(2):
        assert core.get_signature(takes) == inspect.signature(takes)
        names, defaults = core.get_function_args_defaults(takes)
        assert (names, defaults) == (["one", "other"], [3])
        names.clear()  # whoever asked may change it
        defaults.append(4)


def test_what_is_remembered_of_a_method_is_without_self():
    load_beam()
    small_jobs.settle()
    from apache_beam.transforms import core

    class Holder:
        takes = takes

    for _ in range(2):
        assert core.get_function_args_defaults(Holder.takes)[0] == ["one", "other"]
        assert core.get_function_args_defaults(Holder().takes)[0] == ["other"]


def test_what_asks_for_states_is_found_among_what_does_not():
    import apache_beam as beam
    from apache_beam.coders import VarIntCoder
    from apache_beam.transforms import userstate

    asked = beam.DoFn.StateParam(userstate.BagStateSpec("state", VarIntCoder()))

    class Plain(beam.DoFn):
        def process(self, element):
            return [element]

    class Stateful(beam.DoFn):
        def process(self, element, state=asked):
            return [element]

    class Either(beam.DoFn):
        def __init__(self, process):
            self.process = MethodType(process, self)

    def stateful(self, element, state=asked):
        return [element]

    find = remembered.specs_once(userstate.get_dofn_specs)
    dofns = [Plain(), Stateful(), Either(takes), Either(stateful), beam.FlatMap(takes).fn]
    for _ in range(2):
        assert [len(find(dofn)[0]) for dofn in dofns] == [0, 1, 0, 1, 0]


def test_options_share_no_values():
    from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions

    make = remembered.options_once(PipelineOptions.__init__)
    one, other, third = (PipelineOptions.__new__(DebugOptions) for _ in range(3))
    for options, flags in ((one, ["--experiments=a"]), (other, ["--experiments=a"]), (third, [])):
        make(options, flags)
    one.experiments.append("b")
    assert (one.experiments, other.experiments, third.experiments) == (["a", "b"], ["a"], None)


def test_a_job_that_does_not_say_it_has_as_many_workers_as_cores(tmp_path, monkeypatch):
    found = []
    settings = invocation.RunSettings
    monkeypatch.setattr(
        invocation, "RunSettings", lambda **named: found.append(named) or settings(**named)
    )
    small_jobs.settle()
    flags = [*harness.small(tmp_path, ["some words"]), "--out", tmp_path / "store"]
    harness.done("tokenize", *flags)  # here it is one
    monkeypatch.setattr(invocation, "usable_cores", lambda: 3)
    harness.done("tokenize", *flags)
    harness.done("tokenize", *flags, "--workers", 2)
    assert [named["workers"] for named in found] == [1, 3, 2]
