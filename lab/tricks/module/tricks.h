/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the lab's module share: see main.c for what it is and where it refuses to run. */
#ifndef LAB_TRICKS_H
#define LAB_TRICKS_H

#include <linux/atomic.h>
#include <linux/sched.h>
#include <linux/types.h>

/* One change to the kernel that can be made and taken back. */
struct trick {
	const char *name;
	/* `number` is the process or port that it is about; 0 where it is about none. */
	int (*start)(struct trick *trick, int number);
	void (*stop)(struct trick *trick);
	bool on;

	/* What it did, for whoever checks that it is found. */
	const char *symbol;	/* the kernel's thing that was changed */
	void *address;		/* where */
	void *target;		/* what is there now */
	void *original;		/* what was there before */
	int number;
	atomic_t hits;		/* how often the code of a hook ran */
};

/* Ended by one without a name. */
extern struct trick process_tricks[];
extern struct trick module_tricks[];
extern struct trick call_tricks[];
extern struct trick pointer_tricks[];
extern struct trick callback_tricks[];

int find_lookup(void);
void *kernel_symbol(const char *name);
int write_kernel(void *to, const void *from, size_t size);
int replace_pointer(struct trick *trick, const char *symbol, size_t offset, void *target);
void restore_pointer(struct trick *trick);
bool is_number(const char *name, int length, int number);

#endif
