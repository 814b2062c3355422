"""From an output back to the image."""
