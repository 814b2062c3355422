"""Numbers that a network is judged by, and that go beside pictures."""
