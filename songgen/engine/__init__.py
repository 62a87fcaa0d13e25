"""The engine: a chain of generators from requests to songs on disk, ignorant of music."""
