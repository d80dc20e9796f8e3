//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Traces a container's init: its fork below the runtime, its first exec as the user's process, its exit.
 *
 * Every hook has two programs, tp_btf and raw_tp. On 7.x, where tracepoints can be preempted, the guard against
 * recursion (prog->active, per CPU) drops up to 3 % of the runs of a single program; each program has a guard of its own.
 * What is done for an event is done once: by an atomic change of the map that the second program finds already made.
 */
#include "headers/task.h"

enum role {
	RUNTIME = 1,            /* runs create, run or restore; put in by the agent while its execve is held */
	CHILD,                  /* below a runtime, in the runtime's PID namespace; an init too, where that is the host's */
	INIT,                   /* entered another PID namespace, or named by the agent; has not become the user's process */
	USER,                   /* the same, or a CHILD in another root, after its first execve there */
};

/*
 * Processes that are followed, by pid. Written by the agent (runtimes, and inits that were there before it) and by the
 * programs below (children, roles); read by the agent to know a runtime's own re-exec. 16,384 is four times the most
 * containers the kubelet allows on a node together with their runtimes (110 by default, 500 in large clusters).
 */
struct followed {
	u64 start_boottime;
	u64 memcg;              /* of USER: its row in memcgs */
	u64 root_mnt;           /* of what is below a runtime: the runtime's root; only compared, never followed */
	u64 root_dentry;
	u32 runtime;            /* the pid that the tree began with; of an init that was there before, its own */
	u32 level;
	enum role role;
	u32 depth;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, struct followed);
} followed SEC(".maps");

/* The init of the container that a memory cgroup belongs to. Written as followed is; read when something is OOM-killed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, u32);
} memcgs SEC(".maps");

enum kind {
	FORK = 1,               /* of an init */
	EXEC,                   /* of an init for the first time: it was INIT, or CHILD */
	EXIT,                   /* of a runtime or of an init */
	OOM,                    /* of anything in the memory cgroup of the init `runtime` */
};

struct event {
	struct task task;
	u64 time;               /* ns since boot */
	u32 runtime;            /* as in followed */
	enum role role;
	enum kind kind;
	s32 status;             /* EXIT: what wait(2) says */
	u32 oom;                /* EXIT: it was killed for want of memory */
};

const struct event *unused __attribute__((unused));    /* keeps the type in BTF: the Go one is made from it */

/* To the agent. About 160 bytes an event and five events a container: 1 MiB is more than a thousand containers behind. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

u64 events_lost = 0;            /* no room in events, followed or memcgs: the agent lists the node again */

/*
 * new_event is to be checked and submitted at once: the verifier of 6.1 takes a second look at what is known not to be
 * NULL for one that may fail, and refuses a program that then returns without a submit.
 */
static __always_inline struct event *new_event(struct task_struct *t, enum kind kind, u32 runtime, enum role role)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		__sync_fetch_and_add(&events_lost, 1);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	read_task(t, &e->task);
	e->time = bpf_ktime_get_boot_ns();
	e->runtime = runtime;
	e->role = role;
	e->kind = kind;
	return e;
}

/* on_fork: by whom does not matter, only below whom: runc's init is made with CLONE_PARENT. */
static __always_inline int on_fork(struct task_struct *parent, struct task_struct *child)
{
	u32 key = host_tgid(parent), child_key;
	struct followed *above = bpf_map_lookup_elem(&followed, &key), f, *stale;
	struct event *e;

	if (!above || above->role > CHILD)         /* what an init forks is its own affair */
		return 0;
	if (BPF_CORE_READ(parent, tgid) == BPF_CORE_READ(child, tgid))
		return 0;                               /* a thread */
	f = *above;
	if (++f.depth > 8)                              /* deeper than any runtime goes */
		return 0;
	if (above->role == RUNTIME) {
		f.root_mnt = (u64)BPF_CORE_READ(parent, fs, root.mnt);
		f.root_dentry = (u64)BPF_CORE_READ(parent, fs, root.dentry);
	}
	child_key = host_tgid(child);
	f.start_boottime = BPF_CORE_READ(child, start_boottime);
	stale = bpf_map_lookup_elem(&followed, &child_key);
	if (stale && stale->start_boottime != f.start_boottime)
		bpf_map_delete_elem(&followed, &child_key);     /* its end was lost, and its pid is this one's */
	f.role = BPF_CORE_READ(child, thread_pid, level) > f.level ? INIT : CHILD;
	switch (bpf_map_update_elem(&followed, &child_key, &f, BPF_NOEXIST)) {
	case 0:
		break;
	case -17:                                       /* EEXIST: the other program was first */
		return 0;
	default:
		__sync_fetch_and_add(&events_lost, 1);
		return 0;
	}
	if (f.role != INIT)
		return 0;
	e = new_event(child, FORK, f.runtime, f.role);
	if (e)
		bpf_ringbuf_submit(e, 0);
	return 0;
}

static __always_inline int left_root(struct task_struct *t, struct followed *f)
{
	return f->root_mnt != (u64)BPF_CORE_READ(t, fs, root.mnt) ||
	       f->root_dentry != (u64)BPF_CORE_READ(t, fs, root.dentry);
}

/*
 * became_init: t, in its runtime's PID namespace, has executed something in a root of its own. Nothing else that a
 * runtime makes does: OCI hooks run in the runtime's root, or in the container's as children of the init, which has left
 * the runtime's root itself (the process that crun leaves beside a detached init has not), and the runtime's own second
 * exec comes before the change of root.
 */
static __always_inline int became_init(struct task_struct *t, struct followed *f)
{
	struct task_struct *parent = BPF_CORE_READ(t, real_parent);
	u32 key = host_tgid(parent);
	struct followed *above = bpf_map_lookup_elem(&followed, &key);

	if (above && above->role != RUNTIME && left_root(parent, f))
		return 0;
	return left_root(t, f);
}

static __always_inline int on_exec(struct task_struct *t)
{
	u32 key = host_tgid(t);
	struct followed *f = bpf_map_lookup_elem(&followed, &key);
	struct cgroup_subsys_state *memcg;
	enum role was;
	struct event *e;

	if (!f || f->role == RUNTIME || f->role == USER)
		return 0;
	if (f->start_boottime != BPF_CORE_READ(t, group_leader, start_boottime))
		return 0;                               /* another process with the same pid */
	if (f->role == CHILD && !became_init(t, f))
		return 0;
	memcg = memcg_of(t);
	f->memcg = BPF_CORE_READ(memcg, cgroup, kn, id);
	if (bpf_map_update_elem(&memcgs, &f->memcg, &key, BPF_ANY))
		__sync_fetch_and_add(&events_lost, 1);
	was = f->role;
	f->role = USER;
	e = new_event(t, EXEC, f->runtime, was);
	if (e)
		bpf_ringbuf_submit(e, 0);
	return 0;
}

/* report_oom finds whose container t died in: that of the nearest memory cgroup above it which belongs to one. */
static __always_inline void report_oom(struct task_struct *t)
{
	struct cgroup_subsys_state *css = memcg_of(t);

	for (int i = 0; css && i < 16; i++) {           /* cgroups in a container are rarely deeper than three */
		u64 id = BPF_CORE_READ(css, cgroup, kn, id);
		u32 *init = bpf_map_lookup_elem(&memcgs, &id);

		if (init) {
			struct event *e = new_event(t, OOM, *init, 0);

			if (e)
				bpf_ringbuf_submit(e, 0);
			return;
		}
		css = BPF_CORE_READ(css, parent);
	}
}

static __always_inline int on_exit(struct task_struct *t)
{
	struct signal_struct *signal = BPF_CORE_READ(t, signal);
	u32 key, oom;
	struct followed *f, was;
	struct event *e;

	if (BPF_CORE_READ(signal, live.counter))        /* not the last thread: the process lives */
		return 0;
	oom = BPF_CORE_READ(signal, oom_mm) != 0;
	key = host_tgid(t);
	f = bpf_map_lookup_elem(&followed, &key);
	if (!f) {
		if (oom)
			report_oom(t);
		return 0;
	}
	was = *f;
	if (was.start_boottime != BPF_CORE_READ(t, group_leader, start_boottime))
		return 0;                               /* another process with the same pid */
	if (bpf_map_delete_elem(&followed, &key))
		return 0;                               /* the other program was first */
	if (was.role == CHILD)
		return 0;
	if (was.memcg) {
		u32 *owner = bpf_map_lookup_elem(&memcgs, &was.memcg);

		if (owner && *owner == key)
			bpf_map_delete_elem(&memcgs, &was.memcg);
	}
	e = new_event(t, EXIT, was.runtime, was.role);
	if (!e)
		return 0;
	e->oom = oom;
	e->status = BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT ?
		BPF_CORE_READ(signal, group_exit_code) : BPF_CORE_READ(t, group_leader, exit_code);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(fork_btf, struct task_struct *parent, struct task_struct *child) { return on_fork(parent, child); }

SEC("raw_tp/sched_process_fork")
int fork_raw(struct bpf_raw_tracepoint_args *ctx) { return on_fork((void *)ctx->args[0], (void *)ctx->args[1]); }

SEC("tp_btf/sched_process_exec")
int BPF_PROG(exec_btf, struct task_struct *t) { return on_exec(t); }

SEC("raw_tp/sched_process_exec")
int exec_raw(struct bpf_raw_tracepoint_args *ctx) { return on_exec((void *)ctx->args[0]); }

SEC("tp_btf/sched_process_exit")
int BPF_PROG(exit_btf, struct task_struct *t) { return on_exit(t); }

SEC("raw_tp/sched_process_exit")
int exit_raw(struct bpf_raw_tracepoint_args *ctx) { return on_exit((void *)ctx->args[0]); }

char LICENSE[] SEC("license") = "Dual BSD/GPL";
