/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Held execs whose arguments name no container: filter.bpf.c puts them in, lookup.bpf.c takes them out. */
#pragma once
#include "kernel.h"

/*
 * By the address of the event, which is one exec's until it is answered: the global tid of the task that it holds. An
 * event that nobody asks about, for its task was killed, leaves its element behind; its address may be another task's.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, u32);
} quiet SEC(".maps");

static __always_inline u32 was_quiet(u64 event, u32 global_tid)
{
	u32 *tid = bpf_map_lookup_elem(&quiet, &event), is = tid && *tid == global_tid;

	if (tid)
		bpf_map_delete_elem(&quiet, &event);
	return is;
}
