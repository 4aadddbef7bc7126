"""Fetches images for tests on other processors than a PC's: `python -m tests.guest.fetch`.

Without the test packages, so that it can run at the same time.
"""

from e1000emu.errors import E1000Error
from e1000emu.guest import prepare_qemu, unpacked, unpacked_linux

U_BOOT = ("u-boot-qemu",)
BUSYBOX = ("busybox-static",)


def main() -> None:
    """Fetch all available images; the tests report missing ones."""
    try:
        for target in ("aarch64", "ppc"):
            prepare_qemu(target=target, say=print)
        unpacked("firmware", U_BOOT, say=print)
        unpacked("busybox", BUSYBOX, architecture="arm64", say=print)
        unpacked_linux("arm64", say=print)
    except E1000Error as error:
        print(error)


if __name__ == "__main__":
    main()
