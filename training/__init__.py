"""A training run as a process."""
