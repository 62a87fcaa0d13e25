"""Synthetic songs with everything known about them: what the built-in model is trained on."""
