"""How good a map of relevance is: measures that know maps, images and answers, and nothing of what made the maps."""
