"""Figures, sheets of images and the page that evaluate.py makes of scores."""
