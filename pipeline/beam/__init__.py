"""Runs Beam graphs; nothing here depends on what their work units do.

transforms   what the graphs are made of: the work units of a crew, sums of histograms
metrics      what an engine's own page shows of the stages
runner       runs a graph on this machine's cores or on another runner, and watches it
each         one unit for each of many values: on threads of this process, or as a graph
loading      imports Beam, without what the graphs do not use
processes    starts worker processes and notices when one dies; `worker` is what they run
"""
