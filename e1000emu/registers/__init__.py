"""The tables that the device, its documentation and its tests work by: one row per register."""
