"""Data sets from the web: mirrors, resume."""
