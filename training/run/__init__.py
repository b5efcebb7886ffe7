"""One run: its ranks, its inputs, its folder with log, checkpoints and exports."""
