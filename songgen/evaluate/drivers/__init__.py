"""Programs that run in another Python, where a scorer lives that songgen's own environment cannot hold."""
