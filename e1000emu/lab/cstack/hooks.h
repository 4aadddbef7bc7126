/* SPDX-License-Identifier: Apache-2.0
 *
 * What C calls in Python; both the C compiler and cffi read it, so it has no directives. A call by its
 * name, with CALL_ARGS numbers or addresses; the value, or an errno below 0.
 */
int64_t py_call(const char *name, const int64_t *args);
