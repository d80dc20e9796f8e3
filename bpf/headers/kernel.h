/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel's types, as far as they are read here. The loader relocates every offset from the running kernel's BTF
 * (CO-RE): members are found by name, also through the kernel's anonymous structs and unions, so order, neighbours and
 * size do not matter. A type and its kind must be named as the kernel names them. One source serves x86_64 and arm64.
 */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

typedef __u8 u8;
typedef __u32 u32;
typedef __s32 s32;
typedef __u64 u64;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head { struct list_head *next, *prev; };
struct hlist_node { struct hlist_node *next; };
struct hlist_head { struct hlist_node *first; };
typedef struct { int counter; } atomic_t;
typedef struct { unsigned int val; } kuid_t;

/* A process id: numbers[n] is what the PID namespace at depth n calls it. tasks[0] (PIDTYPE_PID) is the task. */
struct ns_common { unsigned int inum; };
struct pid_namespace { struct ns_common ns; };
struct upid { int nr; struct pid_namespace *ns; };
struct pid { unsigned int level; struct hlist_head tasks[1]; struct upid numbers[1]; };

struct cgroup_namespace { struct ns_common ns; };
struct ipc_namespace { struct ns_common ns; };
struct mnt_namespace { struct ns_common ns; };
struct net { struct ns_common ns; };
struct user_namespace { struct ns_common ns; };
struct uts_namespace { struct ns_common ns; };
struct nsproxy {
	struct cgroup_namespace *cgroup_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
	struct uts_namespace *uts_ns;
};
struct cred { kuid_t euid; struct user_namespace *user_ns; };

enum cgroup_subsys_id { memory_cgrp_id = 4 };       /* relocated by name: the number differs between kernels */
struct kernfs_node { u64 id; };
struct cgroup { struct kernfs_node *kn; };
struct cgroup_subsys_state { struct cgroup *cgroup; struct cgroup_subsys_state *parent; };
struct css_set { struct cgroup_subsys_state *subsys[16]; struct cgroup *dfl_cgrp; };

/* An open descriptor: files->fdt->fd[n]. A file below /proc/<pid> is a proc_inode, which names its process. */
struct inode { unsigned long i_ino; };
struct proc_inode { struct pid *pid; struct inode vfs_inode; };
struct file { void *private_data; struct inode *f_inode; };
struct fdtable { unsigned int max_fds; struct file **fd; };
struct files_struct { struct fdtable *fdt; };

/* A process's root directory, which is a directory of a mount. */
struct path { struct vfsmount *mnt; struct dentry *dentry; };
struct fs_struct { struct path root; };

struct signal_struct { atomic_t live; unsigned int flags; int group_exit_code; void *oom_mm; };
struct vm_struct { unsigned int nr_pages; };

struct task_struct {
	unsigned int flags;
	int pid, tgid;
	int exit_code;
	u64 start_boottime;
	void *stack;
	struct vm_struct *stack_vm_area;            /* CONFIG_VMAP_STACK */
	struct task_struct *real_parent, *group_leader;
	struct pid *thread_pid;
	struct hlist_node pid_links[1];
	struct signal_struct *signal;
	const struct cred *cred;
	struct nsproxy *nsproxy;
	struct fs_struct *fs;
	struct files_struct *files;
	struct css_set *cgroups;
};

/* fanotify: access_list holds the permission events that read(2) returned and nobody has answered yet. */
struct fanotify_group_private_data { struct list_head access_list; };
struct fsnotify_group { struct fanotify_group_private_data fanotify_data; };    /* in an anonymous union there */
struct fsnotify_event { struct list_head list; };
struct fanotify_event { struct fsnotify_event fse; struct pid *pid; };
struct fanotify_perm_event { struct fanotify_event fae; int fd; };

/* Registers as they were on entry to the system call. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs { unsigned long orig_ax, di, si, dx; };
struct fred_frame { struct pt_regs regs; };         /* exists where CONFIG_X86_FRED does */
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs { u64 regs[31]; u64 orig_x0; s32 syscallno; };
#else
#error "set __TARGET_ARCH_x86 or __TARGET_ARCH_arm64"
#endif

#pragma clang attribute pop

#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 0x4
