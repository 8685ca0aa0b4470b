"""Strategies by name: ways of choosing cells, under one budget account. `darts` is the loop of search.py."""
