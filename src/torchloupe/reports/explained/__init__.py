"""A page that says why a network answered as it did, a card for each picture."""
