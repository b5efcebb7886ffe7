"""Runs compared: figures, tables and a picture."""
