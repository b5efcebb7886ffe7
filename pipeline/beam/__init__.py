"""The Beam shell: transforms, and what runs a graph."""
