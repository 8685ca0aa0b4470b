"""Exact algebra that makes a trained network cheaper to run."""
