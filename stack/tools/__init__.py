"""What looks at the stack from outside: traces, profiles, pages about knobs. Nothing in `stack`
imports it."""
