"""Folders, local and remote, and Arrow files."""
