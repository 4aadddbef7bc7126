# cython: language_level=3, embedsignature=True
"""How this build of fastpath was made, told by the compiler that made it."""

cdef extern from *:
    """
    #if defined(__clang__)
    #define E1K_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define E1K_COMPILER "gcc " __VERSION__
    #else
    #define E1K_COMPILER "unknown"
    #endif
    #ifdef __SANITIZE_ADDRESS__
    #define E1K_ASAN 1
    #elif defined(__has_feature)
    #if __has_feature(address_sanitizer)
    #define E1K_ASAN 1
    #endif
    #endif
    #ifndef E1K_ASAN
    #define E1K_ASAN 0
    #endif
    #ifdef E1000EMU_DEBUG
    #define E1K_DEBUG 1
    #else
    #define E1K_DEBUG 0
    #endif
    """
    const char *E1K_COMPILER
    int E1K_ASAN
    int E1K_DEBUG


def compiler():
    """Return the name and version of the C compiler."""
    return E1K_COMPILER.decode()


def mode():
    """Return "release", "debug" (all checks on) or "asan"."""
    return "asan" if E1K_ASAN else "debug" if E1K_DEBUG else "release"
