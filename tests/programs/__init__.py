"""Unmodified programs on our hosts (stack.api.programs)."""
