"""Queueing disciplines (net/sched)."""
