"""Driver misuse, explanations of hangs, and injected faults."""
