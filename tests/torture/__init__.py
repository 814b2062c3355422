"""Long runs that try to break torchloupe; the suite runs a short one of each."""
