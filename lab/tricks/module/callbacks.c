// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel offers to modules and what theirs is registered for: notifiers, packets, a thread. */
#include <linux/delay.h>
#include <linux/keyboard.h>
#include <linux/kthread.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/notifier.h>
#include <net/net_namespace.h>
#include "tricks.h"

static struct trick *keys, *packets;

static int key_pressed(struct notifier_block *block, unsigned long action, void *data)
{
	atomic_inc(&keys->hits);
	return NOTIFY_OK;
}

static struct notifier_block key_notifier = { .notifier_call = key_pressed };

static int hook_keyboard(struct trick *trick, int number)
{
	keys = trick;
	trick->symbol = "keyboard_notifier_list";
	trick->address = &key_notifier;
	trick->target = key_pressed;
	return register_keyboard_notifier(&key_notifier);
}

static void unhook_keyboard(struct trick *trick)
{
	unregister_keyboard_notifier(&key_notifier);
}

static unsigned int packet_received(void *private, struct sk_buff *skb, const struct nf_hook_state *state)
{
	atomic_inc(&packets->hits);
	return NF_ACCEPT;
}

static const struct nf_hook_ops packet_hook = {
	.hook = packet_received,
	.pf = NFPROTO_IPV4,
	.hooknum = NF_INET_LOCAL_IN,
	.priority = NF_IP_PRI_FIRST,
};

static int hook_netfilter(struct trick *trick, int number)
{
	packets = trick;
	trick->symbol = "init_net";
	trick->address = (void *)&packet_hook;
	trick->target = packet_received;
	return nf_register_net_hook(&init_net, &packet_hook);
}

static void unhook_netfilter(struct trick *trick)
{
	nf_unregister_net_hook(&init_net, &packet_hook);
}

static int work(void *trick)
{
	while (!kthread_should_stop()) {
		atomic_inc(&((struct trick *)trick)->hits);
		msleep_interruptible(100);
	}
	return 0;
}

/* With the name of a worker of the kernel's own. */
static int run_thread(struct trick *trick, int number)
{
	struct task_struct *thread = kthread_run(work, trick, "kworker/0:7");

	if (IS_ERR(thread))
		return PTR_ERR(thread);
	trick->symbol = "kthreadd_task";
	trick->address = thread;
	trick->target = work;
	trick->number = thread->pid;
	return 0;
}

static void end_thread(struct trick *trick)
{
	kthread_stop(trick->address);
}

struct trick callback_tricks[] = {
	{ .name = "hook-keyboard", .start = hook_keyboard, .stop = unhook_keyboard },
	{ .name = "hook-netfilter", .start = hook_netfilter, .stop = unhook_netfilter },
	{ .name = "kernel-thread", .start = run_thread, .stop = end_thread },
	{}
};
