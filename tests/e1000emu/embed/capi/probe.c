/* SPDX-License-Identifier: Apache-2.0
 *
 * `probe [PYTHON_PATH]` makes a NIC, reads its ids and says what the library says.
 */
#include <e1000emu.h>

#include <stdio.h>

int main(int argc, char **argv)
{
    struct e1000emu_options options = E1000EMU_OPTIONS_INIT;
    e1000emu_nic *nic;
    uint64_t ids = 0;

    options.python_path = argc > 1 ? argv[1] : NULL;
    nic = e1000emu_create(&options);
    if (!nic) {
        printf("%s: %s\n", e1000emu_error_name(e1000emu_last_code()), e1000emu_last_error());
        /* asked again, it says the same */
        nic = e1000emu_create(NULL);
        printf("%s: %s\n", e1000emu_error_name(e1000emu_last_code()), e1000emu_last_error());
        return nic ? 2 : 1;
    }
    if (e1000emu_config_read(nic, 0, 4, &ids) || e1000emu_destroy(nic))
        return 1;
    printf("%08llx, version %s\n", (unsigned long long)ids, e1000emu_version());
    return 0;
}
