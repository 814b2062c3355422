"""Sample pictures; SOURCES.md says where each comes from, and that it is free for any use."""
