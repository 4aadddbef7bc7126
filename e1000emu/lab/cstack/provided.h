/* SPDX-License-Identifier: Apache-2.0
 *
 * What Python calls in C; both the C compiler and cffi read it, so it has no directives.
 */
/* Keep the text of an error for e1000stack_last_error in this thread; returns `code`. */
int shim_error(int code, const char *text);
/* What the library was built from, as build.fingerprint() returns it. */
const char *shim_fingerprint(void);
/* Python serves from now on. */
void shim_served(void);
