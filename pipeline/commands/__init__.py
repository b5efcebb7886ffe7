"""The commands: from flags to jobs, and what is printed."""
