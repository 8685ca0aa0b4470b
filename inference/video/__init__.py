"""Overlays and cutouts of videos."""
