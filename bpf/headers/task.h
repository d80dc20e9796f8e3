/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* struct task: what is reported of a task, and how it is read. */
#pragma once
#include "kernel.h"

/*
 * "The host" is the PID namespace of the host's procfs: on nested nodes (kind) it is not the initial one. Its depth and
 * its inode are written once by the agent, before any program is attached.
 */
u32 host_level = 0;
u32 host_pidns = 0;

/* Pids are those of the host; 0 where it cannot see the task. Namespaces and cgroups are inode numbers. */
struct task {
	u64 start_boottime;     /* ns, of the thread group's leader: with tgid the identity of the process */
	u64 cgroup;             /* in the unified hierarchy */
	u64 memcg;              /* of the memory controller, v1 or v2 */
	u32 tid, tgid, ppid;
	u32 level;              /* absolute depth of its PID namespace */
	u32 euid;               /* in the initial user namespace */
	u32 cgroup_ns, ipc_ns, mnt_ns, net_ns, pid_ns, user_ns, uts_ns;
};

/* numbers[] ends the struct, so that its index cannot be relocated: by hand from offset and element size. */
static __always_inline struct upid *upid_at(struct pid *pid, u32 level)
{
	return (void *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
}

/* host_nr is the host's number of pid, or 0 where the host cannot see it. */
static __always_inline u32 host_nr(struct pid *pid)
{
	u32 level = BPF_CORE_READ(pid, level);
	struct upid *u = upid_at(pid, host_level);

	if (level < host_level)
		return 0;
	if (host_level && BPF_CORE_READ(u, ns, ns.inum) != host_pidns)
		return 0;
	return BPF_CORE_READ(u, nr);
}

/* host_tgid is the map key of a process. On a plain node it costs one read. */
static __always_inline u32 host_tgid(struct task_struct *t)
{
	if (!host_level)
		return BPF_CORE_READ(t, tgid);
	return host_nr(BPF_CORE_READ(t, group_leader, thread_pid));
}

/* memcg_of is the memory controller's css of t. */
static __always_inline struct cgroup_subsys_state *memcg_of(struct task_struct *t)
{
	struct css_set *set = BPF_CORE_READ(t, cgroups);
	struct cgroup_subsys_state *css = 0;
	u32 at = bpf_core_field_offset(struct css_set, subsys) +
		 bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id) * sizeof(void *);

	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		bpf_probe_read_kernel(&css, sizeof(css), (void *)set + at);
	return css;
}

static __always_inline void read_task(struct task_struct *t, struct task *o)
{
	struct task_struct *leader = BPF_CORE_READ(t, group_leader);
	struct pid *pid = BPF_CORE_READ(t, thread_pid);
	struct nsproxy *ns = BPF_CORE_READ(t, nsproxy);
	struct cgroup_subsys_state *memcg = memcg_of(t);
	struct upid *innermost;

	o->start_boottime = BPF_CORE_READ(leader, start_boottime);
	o->level = BPF_CORE_READ(pid, level);
	o->tid = host_nr(pid);
	o->tgid = host_nr(BPF_CORE_READ(leader, thread_pid));
	o->ppid = host_nr(BPF_CORE_READ(t, real_parent, group_leader, thread_pid));
	o->euid = BPF_CORE_READ(t, cred, euid.val);
	o->user_ns = BPF_CORE_READ(t, cred, user_ns, ns.inum);
	o->cgroup_ns = BPF_CORE_READ(ns, cgroup_ns, ns.inum);
	o->ipc_ns = BPF_CORE_READ(ns, ipc_ns, ns.inum);
	o->mnt_ns = BPF_CORE_READ(ns, mnt_ns, ns.inum);
	o->net_ns = BPF_CORE_READ(ns, net_ns, ns.inum);
	o->uts_ns = BPF_CORE_READ(ns, uts_ns, ns.inum);
	innermost = upid_at(pid, o->level);
	o->pid_ns = BPF_CORE_READ(innermost, ns, ns.inum);
	o->cgroup = BPF_CORE_READ(t, cgroups, dfl_cgrp, kn, id);
	o->memcg = BPF_CORE_READ(memcg, cgroup, kn, id);
}
