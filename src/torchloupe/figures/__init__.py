"""Numbers to pictures; knows no method."""
