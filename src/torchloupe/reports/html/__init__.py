"""A report's page."""
