//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Says of an exec that is about to be held whether its arguments can name a container. It runs in the task itself, as the
 * kernel queues the event, so it reads the task's own memory, and reads only what is there: it never waits. Nothing but
 * events of the one group is looked at. An object of its own, since it loads only where a trampoline can be attached
 * (x86_64 5.5, arm64 6.4); elsewhere, and where an argument is in no page now, the worker reads them, as it does of all
 * others.
 */
#include "headers/execve.h"
#include "headers/quiet.h"

#define MAX_ARGS 32

u64 group = 0;                  /* struct fsnotify_group of ours; nothing is looked at before it is known */

/* watch_group: the group is that with descriptor args[0]. */
SEC("raw_tp")
int watch_group(struct bpf_raw_tracepoint_args *ctx)
{
	group = (u64)BPF_CORE_READ(file_of(ctx->args[0]), private_data);
	return 0;
}

/*
 * names_container says whether an argument may be the command of a runtime that makes, starts or deletes a container, or
 * one of conmon's that names one: -c, also among other letters, or --cid. What it says too much is looked at by the worker.
 */
static __always_inline int names_container(const char word[8])
{
	u64 all = *(const u64 *)word;

	if (all == *(const u64 *)"create\0" || all == *(const u64 *)"start\0\0" || all == *(const u64 *)"delete\0" ||
	    all == *(const u64 *)"restore" || all == *(const u64 *)"run\0\0\0\0")
		return 1;
	if (word[0] != '-')
		return 0;
	if (word[1] == '-')
		return word[2] == 'c' && word[3] == 'i' && word[4] == 'd';
	for (int i = 1; i < 7; i++)
		if (word[i] == 'c')
			return 1;
	return word[6] != 0;                            /* longer than what was read */
}

/* on_event: args[1] of fsnotify_insert_event (fsnotify_add_event on older kernels) is queued for the group args[0]. */
SEC("fentry/fsnotify_insert_event")
int on_event(u64 *ctx)
{
	struct task_struct *me = (void *)bpf_get_current_task();
	u64 event = ctx[1], argv;
	u32 tid;

	if (!group || ctx[0] != group)
		return 0;
	bpf_map_delete_elem(&quiet, &event);            /* an event before had that address */
	argv = argv_of(me);
	if (!argv || BPF_CORE_READ(me, flags) & PF_KTHREAD)
		return 0;
	for (u32 i = 0; i < MAX_ARGS; i++) {
		char word[8] __attribute__((aligned(8))) = {};
		u64 at = 0;

		if (bpf_probe_read_user(&at, sizeof(at), (void *)(argv + i * sizeof(at))))
			return 0;
		if (!at) {
			tid = BPF_CORE_READ(me, pid);
			bpf_map_update_elem(&quiet, &event, &tid, BPF_ANY);
			return 0;
		}
		at &= (1ULL << 56) - 1;                 /* arm64 tags; never set on x86_64 */
		if (bpf_probe_read_user_str(word, sizeof(word), (void *)at) < 0 || names_container(word))
			return 0;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
