"""Training a network, from settings to a run folder."""
