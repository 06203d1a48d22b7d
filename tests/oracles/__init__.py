"""Slow, obvious versions of what the package does fast, kept for ever and compared with it in tests."""
