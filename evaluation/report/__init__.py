"""Figures, sheets of pictures and the page that evaluate.py makes of scores."""
