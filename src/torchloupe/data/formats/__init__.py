"""One reader a layout of data sets."""
