"""Beam's options are parsed once per kind, and are the same for everybody."""

import pickle
from copy import deepcopy

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions, TypeOptions

from exactcpt.pipeline.beam.options import KeptOptions

FLAGS = ["--runner=FnApiRunner", "--no_pipeline_type_check", "--labels=a", "--labels=b"]


def test_a_view_is_made_once():
    options = KeptOptions(FLAGS)
    assert options.view_as(TypeOptions) is options.view_as(TypeOptions)
    assert options.view_as(StandardOptions) is not KeptOptions(FLAGS).view_as(StandardOptions)


@pytest.mark.parametrize("copied", [lambda o: o, deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_values_are_beam_s_own_and_a_change_is_seen_in_every_view(copied):
    options = copied(KeptOptions(FLAGS))
    assert options.get_all_options() == PipelineOptions(FLAGS).get_all_options()
    assert not options.view_as(TypeOptions).pipeline_type_check
    options.view_as(TypeOptions).pipeline_type_check = True
    options.view_as(StandardOptions).runner = "Other"
    assert options.get_all_options()["pipeline_type_check"]
    assert options.get_all_options()["runner"] == "Other"
    assert options.view_as(StandardOptions).view_as(TypeOptions).pipeline_type_check
