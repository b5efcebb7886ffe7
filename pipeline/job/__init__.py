"""A job: its folder, its progress, how it is interrupted or ended by an error.

folder         who may write to a folder, and the settings and inputs that it is for
places         where a job may write: apart from its inputs, on a disk with room
progress       how far a job is, for a person
halt           how an error in one work unit ends the job, on any runner
mistakes       what units find wrong in the files they read: the first by order is told
seldom         how often a folder on a server is asked for news
threads        units on threads of this process, without a graph
interruption   how SIGTERM and Ctrl-C end it
"""
