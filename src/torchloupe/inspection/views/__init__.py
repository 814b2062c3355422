"""Results of methods to contact sheets: one small file a kind of result."""
