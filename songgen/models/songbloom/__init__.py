"""SongBloom: the second family, phonemes to sketch tokens to latents."""
