"""The core: the algorithms, on numpy arrays alone. No files, no clock, no global state.

    buckets      effective context, its buckets, and the histogram of a corpus
    exact        from that histogram to one weight per bucket; `parameters` has its settings
    selection    which documents validate, and how often each training document is seen
    packing      from documents to windows; `shuffle` puts both into a seeded order
    whatif       what packing would give, from lengths alone; `weighting` weighs it
    estimation   how far a sample's figures may be from the corpus'

`choices` lists the names that settings choose from, and `runs` cuts a sequence into runs.
"""
