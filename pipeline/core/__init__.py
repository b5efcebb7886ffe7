"""The core: the algorithms, on numpy arrays alone. No files, no clock, no global state."""
