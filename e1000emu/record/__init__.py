"""Snapshots of the device's state, and recordings of its ports."""
