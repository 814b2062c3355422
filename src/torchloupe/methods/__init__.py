"""Ways of looking inside: one file each, one pure function each. Tensors in, tensors out."""
