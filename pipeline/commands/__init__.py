"""The commands: from flags to jobs, and what is printed.

prepare, tokenize_, pack, reweigh, convert, inspect_, show, verify
                     one command each: run_NAME(flags) reads top-down
verify_elsewhere     the units of `verify` in worker processes, or on a Beam runner
options              the flags: types, defaults, help texts
invocation           what the commands share: settings, folders, console, report
inspect_questions    which combinations of settings `inspect` is asked about
summary              the tables and the JSON that a job prints

`cli`, outside this room, ties flags to commands. No room below sees a flag.
"""
