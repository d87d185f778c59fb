// SPDX-License-Identifier: GPL-2.0-only
/* Finding what the kernel does not export, and changing what it protects. */
#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/stop_machine.h>
#include <linux/string.h>
#include <asm/processor-flags.h>
#include <asm/special_insns.h>
#include "tricks.h"

static unsigned long (*lookup)(const char *name);

/* kallsyms_lookup_name is not exported since 5.7 (Linux's 0bd476e6c671), but a probe tells where it is. */
int find_lookup(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	int error = register_kprobe(&probe);

	if (error)
		return error;
	lookup = (void *)probe.addr;
	unregister_kprobe(&probe);
	return 0;
}

void *kernel_symbol(const char *name)
{
	void *address = (void *)lookup(name);

	if (!address)
		pr_err("lab_tricks: this kernel has no %s\n", name);
	return address;
}

struct kernel_write {
	void *to;
	const void *from;
	size_t size;
};

/* With write protection off, without the kernel's own write_cr0(), which keeps that bit set. */
static int write_unprotected(void *data)
{
	const struct kernel_write *write = data;
	unsigned long cr0 = read_cr0();

	asm volatile("mov %0, %%cr0" : : "r"(cr0 & ~X86_CR0_WP) : "memory");
	memcpy(write->to, write->from, write->size);
	asm volatile("mov %0, %%cr0" : : "r"(cr0) : "memory");
	return 0;
}

/*
 * Changes read-only data or code while nothing else runs. Every CPU writes the same, because each has to execute a
 * serializing instruction, as MOV to CR0 is one, before it runs code that was changed.
 */
int write_kernel(void *to, const void *from, size_t size)
{
	struct kernel_write write = { .to = to, .from = from, .size = size };

	return stop_machine(write_unprotected, &write, cpu_online_mask);
}

int replace_pointer(struct trick *trick, const char *symbol, size_t offset, void *target)
{
	void *base = kernel_symbol(symbol);

	if (!base)
		return -ENOENT;
	trick->symbol = symbol;
	trick->address = base + offset;
	trick->original = *(void **)trick->address;
	trick->target = target;
	return write_kernel(trick->address, &trick->target, sizeof(trick->target));
}

void restore_pointer(struct trick *trick)
{
	write_kernel(trick->address, &trick->original, sizeof(trick->original));
}

/* Whether a name of a directory is this number: /proc has processes by number. */
bool is_number(const char *name, int length, int number)
{
	char text[12];
	int digits = snprintf(text, sizeof(text), "%d", number);

	return length == digits && memcmp(name, text, length) == 0;
}
