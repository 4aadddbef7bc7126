"""Plain-Python twins of the compiled modules: slow, short, and the oracle of their tests."""
