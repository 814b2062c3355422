"""Our file, MODEL to network, and foreign checkpoints read without running them."""
