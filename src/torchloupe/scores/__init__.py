"""Numbers that go beside pictures."""
