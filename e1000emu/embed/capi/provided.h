/* SPDX-License-Identifier: Apache-2.0
 *
 * What shim.c offers host.py; both the C compiler and cffi read it, so it has no directives.
 */
/* Keep the text of an error for e1000emu_last_error in this thread; returns `code`. */
int shim_error(int code, const char *text);
/* Take the addresses that fastpath.nic.c_abi.entries() returns; -1 when their number is wrong. */
int shim_entries(uintptr_t *addresses, size_t count);
/* Let the NIC in `slot` be served by the CNic object at this address. */
void shim_nic(uint32_t slot, void *cnic);
/* 1 when the library has started Python, 0 when the process had one. */
int shim_owns_python(void);
/* What the library was built from, as build.fingerprint() returns it. */
const char *shim_fingerprint(void);
