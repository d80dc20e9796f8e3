/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a task in execve was given, and which file a descriptor of ours is. */
#pragma once
#include "kernel.h"

/* THREAD_SIZE is in no BTF type. Used only where stacks are not vmalloc'ed; set by the loader. */
const volatile u32 page_size = 4096;
const volatile u32 thread_size = 16384;

static __always_inline u32 stack_size(struct task_struct *t)
{
	if (bpf_core_field_exists(struct task_struct, stack_vm_area)) {
		u32 pages = BPF_CORE_READ(t, stack_vm_area, nr_pages);

		if (pages)
			return pages * page_size;
	}
	return thread_size;
}

/*
 * The frame that the task's entry into the kernel saved lies at the very top of its kernel stack; x86_64 leaves 16 bytes
 * above it with FRED (TOP_OF_KERNEL_STACK_PADDING). Right only while the task is in the kernel: held by fanotify, it is.
 */
static __always_inline u64 argv_of(struct task_struct *t)
{
	u64 top = (u64)BPF_CORE_READ(t, stack) + stack_size(t);

#if defined(__TARGET_ARCH_x86)
	if (bpf_core_type_exists(struct fred_frame))
		top -= 16;
#endif
	struct pt_regs *r = (void *)(top - bpf_core_type_size(struct pt_regs));

#if defined(__TARGET_ARCH_x86)
	switch (BPF_CORE_READ(r, orig_ax)) {
	case 59:                                        /* execve(path, argv, envp) */
		return BPF_CORE_READ(r, si);
	case 322:                                       /* execveat(dirfd, path, argv, envp, flags) */
		return BPF_CORE_READ(r, dx);
	}
#else
	/* The top byte of a user pointer is a tag that the processor ignores; 5.10 to 6.1 do not strip it. */
	switch (BPF_CORE_READ(r, syscallno)) {
	case 221:
		return BPF_CORE_READ(r, regs[1]) & ((1ULL << 56) - 1);
	case 281:
		return BPF_CORE_READ(r, regs[2]) & ((1ULL << 56) - 1);
	}
#endif
	return 0;
}

static __always_inline struct file *file_of(u32 fd)
{
	struct task_struct *me = (void *)bpf_get_current_task();
	struct fdtable *fdt = BPF_CORE_READ(me, files, fdt);
	struct file **fds = BPF_CORE_READ(fdt, fd), *f = 0;

	if (fd < BPF_CORE_READ(fdt, max_fds))
		bpf_probe_read_kernel(&f, sizeof(f), &fds[fd]);
	return f;
}
