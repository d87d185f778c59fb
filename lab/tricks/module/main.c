// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does to a guest of the lab what a rootkit would, one trick at a time, so that the checks that are to find it can be tested.
 *
 * It refuses to load where it was not asked for: on a kernel whose command line lacks the word `lab.tricks=1`, which the
 * lab writes there, and on a machine that is not virtual. It offers nothing to anybody but root, keeps nothing over a
 * reboot, and says in the kernel's log what it does.
 *
 * /proc/lab-tricks takes "NAME [NUMBER]" to switch a trick on and "-NAME" to switch it off; reading it tells, for each
 * that is on, what it changed.
 */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include "tricks.h"

#define MARK "lab.tricks=1"

static struct trick *const groups[] = {
	process_tricks, module_tricks, call_tricks, pointer_tricks, callback_tricks,
};
static DEFINE_MUTEX(switching);

#define for_each_trick(group, trick)					\
	for (group = 0; group < ARRAY_SIZE(groups); group++)		\
		for (trick = groups[group]; trick->name; trick++)

static struct trick *trick_named(const char *name)
{
	struct trick *trick;
	size_t group;

	for_each_trick(group, trick)
		if (strcmp(trick->name, name) == 0)
			return trick;
	return NULL;
}

static int switch_on(struct trick *trick, int number)
{
	int error;

	if (trick->on)
		return -EALREADY;
	trick->number = number;
	atomic_set(&trick->hits, 0);
	error = trick->start(trick, number);
	if (!error)
		trick->on = true;
	pr_info("lab_tricks: %s %d: %s %d\n", trick->name, number, error ? "refused" : "on", error);
	return error;
}

static int switch_off(struct trick *trick)
{
	if (!trick->on)
		return -EALREADY;
	trick->stop(trick);
	trick->on = false;
	pr_info("lab_tricks: %s: off\n", trick->name);
	return 0;
}

static ssize_t control_write(struct file *file, const char __user *from, size_t count, loff_t *position)
{
	struct trick *trick;
	char line[64], *number, *name;
	int value = 0, error;

	if (count >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, from, count))
		return -EFAULT;
	line[count] = '\0';
	number = strim(line);
	name = strsep(&number, " ");
	if (number && kstrtoint(number, 10, &value))
		return -EINVAL;
	trick = trick_named(name[0] == '-' ? name + 1 : name);
	if (!trick)
		return -ENOENT;
	mutex_lock(&switching);
	error = name[0] == '-' ? switch_off(trick) : switch_on(trick, value);
	mutex_unlock(&switching);
	return error ? error : count;
}

static int control_show(struct seq_file *seq, void *unused)
{
	struct trick *trick;
	size_t group;

	mutex_lock(&switching);
	for_each_trick(group, trick) {
		if (!trick->on)
			continue;
		seq_printf(seq, "%s number=%d symbol=%s", trick->name, trick->number, trick->symbol);
		seq_printf(seq, " address=0x%lx target=0x%lx", (long)trick->address, (long)trick->target);
		seq_printf(seq, " original=0x%lx hits=%d\n", (long)trick->original, atomic_read(&trick->hits));
	}
	mutex_unlock(&switching);
	return 0;
}

static int control_open(struct inode *inode, struct file *file)
{
	return single_open(file, control_show, NULL);
}

static const struct proc_ops control = {
	.proc_open = control_open,
	.proc_read = seq_read,
	.proc_write = control_write,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

/* By the kernel's own copy: what is mounted on /proc can be anything. */
static bool marked(void)
{
	char **saved_command_line = kernel_symbol("saved_command_line");
	char *line, *rest, *word;
	bool found = false;

	if (!saved_command_line)
		return false;
	line = kstrdup(*saved_command_line, GFP_KERNEL);
	for (rest = line; (word = strsep(&rest, " "));)
		found |= strcmp(word, MARK) == 0;
	kfree(line);
	return found;
}

static int __init tricks_init(void)
{
	int error = find_lookup();

	if (error)
		return error;
	if (!marked() || !boot_cpu_has(X86_FEATURE_HYPERVISOR)) {
		pr_err("lab_tricks: refused: this is no guest of the lab, whose command line has " MARK "\n");
		return -EPERM;
	}
	return proc_create("lab-tricks", 0600, NULL, &control) ? 0 : -ENOMEM;
}

static void __exit tricks_exit(void)
{
	struct trick *trick;
	size_t group;

	remove_proc_entry("lab-tricks", NULL);
	for_each_trick(group, trick)
		if (trick->on)
			switch_off(trick);
	/* Whoever was in one of the hooks has left it when every task has been elsewhere once. */
	synchronize_rcu_tasks();
}

module_init(tricks_init);
module_exit(tricks_exit);
MODULE_DESCRIPTION("Tricks of rootkits, for the guests of CloudVMI's lab only");
MODULE_LICENSE("GPL");
