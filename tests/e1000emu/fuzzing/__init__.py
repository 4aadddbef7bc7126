"""A coverage-guided fuzzer of the device: accesses, descriptors, frames, time, cable, threads.

A program is a list of steps for a fresh device (program.py), done on a virtual clock or, through
vfio-user, against a server with its threads (targets.py). What it reached is a set of numbers
(feedback.py): lines of the device's Python and what the device counted and noted. In the build of
`make test-asan` the branches of its compiled code count too. A program that reaches something new
joins those that are mutated (fuzzer.py). The corpus/ beside is where it begins; `make test` replays
it.

    python -m tests.e1000emu.fuzzing --seconds 600 --keep found/
    python -m tests.e1000emu.fuzzing --program found/0123abcd.json
"""
