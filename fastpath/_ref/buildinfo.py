"""Twin of ``fastpath.base.buildinfo``: nothing is compiled here."""


def compiler() -> str:
    """Return the name and version of the C compiler."""
    return "none"


def mode() -> str:
    """Return the kind of build."""
    return "reference"
