"""The fault campaign: what a crash at any file operation leaves, and what the next run makes of it.

shim.c, shim.py   watch the file operations of a command, and disturb them
journal.py        the operations, one by one, with their data
disk.py           every state in which they can leave a disk
server.py         commands in forks of a process that has imported everything
commands.py       small commands, and what counts as a finished result of theirs
watch.py          which files were removed without having been opened
reruns.py         states from which a command must end alike
faults.py         every fault of a command, the same command again, and what is wrong then
kills.py          signals at random moments
"""
