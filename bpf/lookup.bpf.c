//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Looks up a task that the agent cannot name: fanotify across PID namespaces reports pid 0 and no pidfd. Both programs
 * run in the asking thread (BPF_PROG_TEST_RUN of a raw tracepoint, kernel 5.10, 1b4d60ec162f) and
 * are attached to nothing, so no other task of the node ever pays for them.
 */
#include "headers/execve.h"
#include "headers/quiet.h"
#include "headers/task.h"

/* Why an answer is missing. */
enum status {
	FOUND,
	NO_FILE,                /* the descriptor is not open, or not of the kind asked for */
	NO_EVENT,               /* no event that waits has this descriptor */
	GONE,                   /* the task was killed meanwhile */
	KERNEL_THREAD,          /* it has no user half */
};

/* The answer. One at a time: the agent asks under a mutex. */
struct answer {
	u64 nonce;              /* the question's own: an answer that carries another one is stale */
	struct task task;
	u64 argv;               /* of execve(2): a pointer in the task's address space; 0 for any other system call */
	u32 global_tid;         /* in the initial PID namespace: what bpf_task_from_pid takes */
	u32 host_pidns;         /* the PID namespace at depth host_level above it */
	u32 quiet;              /* 1: its arguments name no container; filter.bpf.c */
	enum status status;
};

struct answer found;

static __always_inline int answer_pid(struct pid *pid)
{
	struct hlist_node *n = BPF_CORE_READ(pid, tasks[0].first);
	struct task_struct *t = (void *)n - bpf_core_field_offset(struct task_struct, pid_links);
	struct upid *at_host;

	if (!n || !BPF_CORE_READ(t, signal, live.counter))     /* not even a zombie is left, or only that */
		return found.status = GONE;
	read_task(t, &found.task);
	at_host = upid_at(pid, host_level);
	found.host_pidns = BPF_CORE_READ(at_host, ns, ns.inum);
	found.global_tid = BPF_CORE_READ(t, pid);
	if (BPF_CORE_READ(t, flags) & PF_KTHREAD)
		return found.status = KERNEL_THREAD;
	found.argv = argv_of(t);
	return found.status = FOUND;
}

static __always_inline void begin(u64 nonce, enum status status)
{
	__builtin_memset(&found, 0, sizeof(found));
	found.nonce = nonce;
	found.status = status;
}

/*
 * task_of_event: the task that the permission event with descriptor args[1] of the group with descriptor args[0] holds. The
 * event is found on the group's access_list by its fd, as the kernel itself finds it when it is answered. The list
 * changes only by our own read(2) and write(2): one thread of the gate makes all three calls.
 */
SEC("raw_tp")
int task_of_event(struct bpf_raw_tracepoint_args *ctx)
{
	u32 event_fd = ctx->args[1];
	struct file *file = file_of(ctx->args[0]);
	struct fsnotify_group *group = BPF_CORE_READ(file, private_data);
	struct list_head *head, *at;

	begin(ctx->args[2], NO_FILE);
	if (!group)
		return 0;
	found.status = NO_EVENT;
	head = (void *)group + bpf_core_field_offset(struct fsnotify_group, fanotify_data.access_list);
	at = BPF_CORE_READ(head, prev);                 /* newest first: almost always the one */
	for (int i = 0; i < 2048; i++) {                /* more than can wait at once: the agent admits 256 */
		struct fanotify_perm_event *e;

		if (!at || at == head)
			return 0;
		/* fanotify_perm_event, fanotify_event and fsnotify_event begin at the same address. */
		e = (void *)at - bpf_core_field_offset(struct fsnotify_event, list);
		if (BPF_CORE_READ(e, fd) == event_fd) {
			answer_pid(BPF_CORE_READ(e, fae.pid));
			found.quiet = found.status == FOUND && was_quiet((u64)e, found.global_tid);
			return 0;
		}
		at = BPF_CORE_READ(at, prev);
	}
	return 0;
}

/* task_of_procdir: the process whose directory in a procfs is open as descriptor args[0]. */
SEC("raw_tp")
int task_of_procdir(struct bpf_raw_tracepoint_args *ctx)
{
	struct file *file = file_of(ctx->args[0]);
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct proc_inode *proc;
	struct pid *pid;

	begin(ctx->args[1], NO_FILE);
	if (!inode)
		return 0;
	proc = (void *)inode - bpf_core_field_offset(struct proc_inode, vfs_inode);
	pid = BPF_CORE_READ(proc, pid);
	if (!pid)
		return 0;
	return answer_pid(pid);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
