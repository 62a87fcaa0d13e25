"""Scores of finished songs: one module a measure, a row a song, a summary a folder."""
