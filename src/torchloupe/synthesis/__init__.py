"""Images made by optimisation, and the engine of it."""
