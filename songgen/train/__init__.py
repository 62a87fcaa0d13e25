"""Training a small model that sings, from nothing but synthetic songs; nothing else in songgen needs it."""
