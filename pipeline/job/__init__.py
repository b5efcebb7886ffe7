"""A job's folder, its progress, and how it is interrupted or ended by an error."""
