"""The device in a file: a snapshot of its state, a recording of what crossed its ports."""
