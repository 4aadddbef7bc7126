"""Tools that observe the stack: traces, profiles, pages about knobs. Nothing in `stack`
imports it."""
