"""Foreign checkpoints, read without running them. Imports no torch: the separate process starts here."""
