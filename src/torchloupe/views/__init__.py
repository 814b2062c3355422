"""Results of methods -> contact sheets: one small file a kind of result. Scales are named and said in the note."""
