//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The arguments of a task that is held in execve, read from its address space, pages faulted in as needed. An object of
 * its own, since it loads only where bpf_task_from_pid exists (6.2, 3f0e6f2b41d3); elsewhere the agent reads
 * /proc/<tid>/mem, which is right too, and slower.
 */
#include "headers/kernel.h"

#define MAX_ARGS 64
#define ARG_SIZE 256

enum status {
	COPIED,
	MANY,                   /* more than MAX_ARGS: read them the slow way */
	UNREADABLE,             /* the task is gone, or its memory cannot be read */
};

struct question {
	u64 pointer;            /* in: of the array, in the task's address space */
	u32 global_tid;         /* in: in the initial PID namespace */
	u32 count;              /* out: arguments in copied */
	enum status status;     /* out */
};

/*
 * Written here, read by the agent through its mapping, under the mutex of the question. An argument with no NUL in its
 * row is longer than that.
 */
struct rows {
	u8 args[MAX_ARGS][ARG_SIZE];
	u8 slack[ARG_SIZE];     /* never written: the verifier adds up the two halves of the last row at their longest */
};

struct rows copied;

extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;

#define PAGE 4096               /* the least page size: a read that stays inside it touches one page only */

/*
 * copy_arg copies the ARG_SIZE bytes at from in two halves, cut where a page ends: what lies behind it may not be mapped,
 * and then the string ended before (the helper leaves zeroes).
 */
static __always_inline long copy_arg(struct task_struct *t, u8 *to, u64 from)
{
	u64 half = PAGE - (from & (PAGE - 1));

	if (half >= ARG_SIZE)
		return bpf_copy_from_user_task(to, ARG_SIZE, (void *)from, t, 0);
	bpf_copy_from_user_task(to + half, ARG_SIZE - half, (void *)(from + half), t, 0);
	return bpf_copy_from_user_task(to, half, (void *)from, t, 0);
}

SEC("syscall")
int copy_argv(struct question *in)
{
	struct task_struct *t = bpf_task_from_pid(in->global_tid);

	in->status = UNREADABLE;
	if (!t)
		return 0;
	in->status = MANY;
	for (u32 i = 0; i <= MAX_ARGS; i++) {
		u64 from = 0;

		if (bpf_copy_from_user_task(&from, sizeof(from), (void *)(in->pointer + i * sizeof(from)), t, 0)) {
			in->status = UNREADABLE;
			break;
		}
		in->count = i;
		if (!from) {
			in->status = COPIED;
			break;
		}
		from &= (1ULL << 56) - 1;               /* arm64 tags; never set on x86_64 */
		if (i == MAX_ARGS)
			break;
		if (copy_arg(t, copied.args[i], from)) {
			in->status = UNREADABLE;
			break;
		}
	}
	bpf_task_release(t);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
