"""The model: its attention, its loss, its optimizer."""
