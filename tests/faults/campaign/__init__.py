"""The fault campaign: what a crash at any file operation leaves, and what the next run makes of it.

shim.c, shim.py   watch the file operations of a command, and disturb them
journal.py        the operations, one by one, with their data
disk.py           every state in which they can leave a disk
process.py        commands in forks of this process, which has imported everything
commands.py       small commands, and what counts as a finished result of theirs
faults.py         every fault of a command, the same command again, and what is wrong then
kills.py          signals at random moments
"""
