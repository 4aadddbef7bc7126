"""Translate the protocol path's Python sources for Cython.

The sources of `stack/` stay plain Python. For the modules listed in `compiled.txt` this package
writes the same text with declarations for Cython into a build directory. Functions become `cpdef`
with C types from their annotations and call each other directly. Integer constants become literals.
The fields of every class under `@state` become those of an extension type in one module,
`stack/_state.pyx`. Line numbers stay, so that a traceback points into the source.

    constants.py   values of module-level integer constants
    types.py       from an annotation to a C type
    state.py       stack/_state.pyx: the extension types of the `@state` classes
    slots.py       fields that hold functions, and calls through them
    module.py      one module's `.pyx` and `.pxd`
    tree.py        all modules, and the output directory
    translate.py   Cython over all of them
    build.py       Cython's directives, the C compiler's options
    overrides.py   changes to Cython, as rows:
      paths.py       names of files in the C, tracebacks
      narrow.py      fields with fewer bits than in computations
      needed.py      leaves unused classes of other modules out of a module's C
      wrappers.py    an attribute for functions that parse Python's arguments
    measure.py     the gain of a row of overrides.py
    __main__.py    the commands; README.md shows them
"""
