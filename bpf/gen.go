// Package bpf holds the programs that run in the kernel, compiled, with the Go types of the structures that cross. It
// decides nothing: internal/containerhook/task loads, attaches and asks.
package bpf

// Debian 12's clang 14 and libbpf-dev made what is committed; `make verify-bpf` makes it again and compares. The -I is
// for <asm/types.h>, which <linux/types.h> wants: either architecture's serves both.

//go:generate go tool -modfile=../tools/go.mod bpf2go -target amd64,arm64 -type task -type status Lookup lookup.bpf.c -- -O2 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool -modfile=../tools/go.mod bpf2go -target amd64,arm64 -type question -type status Argv argv.bpf.c -- -O2 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool -modfile=../tools/go.mod bpf2go -target amd64,arm64 -type task -type event -type role -type kind Trace trace.bpf.c -- -O2 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool -modfile=../tools/go.mod bpf2go -target amd64,arm64 Filter filter.bpf.c -- -O2 -Wall -Werror -I/usr/include/x86_64-linux-gnu
