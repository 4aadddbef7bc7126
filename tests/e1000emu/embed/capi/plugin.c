/* SPDX-License-Identifier: Apache-2.0
 *
 * `plugin LIBRARY` loads the library as a plugin of another program does: late, and for itself alone.
 */
#include <e1000emu.h>

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static void *get(void *library, const char *name)
{
    void *symbol = dlsym(library, name);
    if (!symbol)
        fprintf(stderr, "%s: %s\n", name, dlerror());
    return symbol;
}

int main(int argc, char **argv)
{
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL, *symbol;
    e1000emu_nic *(*create)(const struct e1000emu_options *);
    const char *(*last_error)(void);
    uint32_t (*abi)(void);
    e1000emu_nic *nic;

    if (!library) {
        fprintf(stderr, "%s\n", argc == 2 ? dlerror() : "usage: plugin LIBRARY");
        return 2;
    }
    symbol = get(library, "e1000emu_create");
    memcpy(&create, &symbol, sizeof create);
    symbol = get(library, "e1000emu_last_error");
    memcpy(&last_error, &symbol, sizeof last_error);
    symbol = get(library, "e1000emu_abi");
    memcpy(&abi, &symbol, sizeof abi);
    if (abi() != E1000EMU_ABI)
        return 2;
    nic = create(NULL);
    puts(nic ? "a NIC" : last_error());
    return nic == NULL;
}
