"""Two networks side by side: measured on the same images, and one page about it."""
