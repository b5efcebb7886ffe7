"""Where the files of a study are, in its own folder.

    registered.json       what was registered before the first step
    steps/PLACE.json      the record of a step that has ended
    logs/PLACE.log        what its commands printed
    runs/PLACE            the run that it trained
    results.json, table.txt, gains.svg      what came of it

The place of a step is `prepare/MAKES`, `base/SEED` or `STAGE/PAIR/ARM`.
"""

__all__ = ["GAINS", "LOCK", "LOGS", "OWN", "REGISTERED", "RESULTS", "RUNS", "STEPS", "TABLE"]

LOCK = ".lock"
REGISTERED = "registered.json"
STEPS, LOGS, RUNS = "steps", "logs", "runs"
RESULTS, TABLE, GAINS = "results.json", "table.txt", "gains.svg"

OWN = (REGISTERED, STEPS, LOGS, RUNS, RESULTS, TABLE, GAINS)
"""What no command may make."""
