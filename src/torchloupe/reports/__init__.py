"""A report of a network, from the outside to the inside: one HTML file that asks nothing of any network."""
