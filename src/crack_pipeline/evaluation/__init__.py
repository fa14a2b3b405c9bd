"""Scores, thresholds, metrics and figures."""
