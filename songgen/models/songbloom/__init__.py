"""SongBloom: sketch tokens and latents in turn, block by block (Yang et al. 2025, arXiv:2506.07634)."""
